# SPDX-License-Identifier: MIT
"""What a type checker knows of the public functions; mypy checks it, nothing runs it."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import assert_type

import ssno_kernels as ssno
from ssno_kernels import compat
from ssno_kernels.compat import causal_conv1d, mamba_ssm

Pair = tuple[Tensor, Tensor]


def operators(x: Tensor, p: Tensor, flag: bool) -> None:
    assert_type(ssno.selective_scan(x, x, p, x, x), Tensor)
    assert_type(ssno.selective_scan(x, x, p, x, x, p, x, p, True, reverse=True), Tensor)
    assert_type(ssno.selective_scan(x, x, p, x, x, return_final_state=True), Pair)
    assert_type(ssno.selective_scan(x, x, p, x, x, return_final_state=flag), Tensor | Pair)
    assert_type(ssno.selective_scan_step(x, x, x, p, x, x), Pair)
    assert_type(ssno.seq_idx_from_cu_seqlens(x), Tensor)
    assert_type(ssno.damped_conv(x, p, p, p, step=0.5, boundary="periodic"), Tensor)
    assert_type(ssno.damped_conv(x, p, p, p, return_final_state=True), Pair)
    assert_type(ssno.damped_conv(x, p, p, p, return_final_state=flag), Tensor | Pair)
    assert_type(ssno.damped_conv_step(x, x, p, p, p), Pair)
    assert_type(ssno.damped_conv_kernel(p, p, p, 1.0, 32), Tensor)
    assert_type(ssno.cross_selective_scan(x, x, p, x, x, traversals=ssno.CROSS_3D), Tensor)
    assert_type(ssno.CROSS_2D, tuple[ssno.Traversal, ...])
    assert_type(ssno.cross_scan(x, traversals=[ssno.Traversal((0, 1))]), Tensor)
    assert_type(ssno.cross_merge(x), Tensor)
    with ssno.use_backend("composite"):
        assert_type(ssno.alias_free_activation(x, p, p, 2, 2, (5, 5), p), Tensor)
        assert_type(ssno.alias_free_activation(x, p, p, 2, 2, ((5, 5), (5, 5))), Tensor)


def filters() -> None:
    filters = ssno.alias_free_resampling(64, 32)
    assert_type(filters.up_filter, Tensor)
    assert_type(filters.padding, tuple[int, int])
    assert_type(ssno.kaiser_lowpass(12, 16.0, 4.0, 128.0), Tensor)


def layers(x: Tensor, state: Tensor | None) -> None:
    convolution = ssno.nn.DampedConv(8, direction="forward", dtype=torch.float64)
    assert_type(convolution.forward(x, scale=0.5), Tensor)
    assert_type(convolution.advance(state, x), Pair)
    assert_type(convolution.modes(x.dtype)["coeff"], Tensor)
    assert_type(ssno.nn.CrossSelectiveScan(8, axes=3).forward(x), Tensor)
    assert_type(ssno.nn.AliasFreeActivation(2, 1).up_filter, Tensor)
    assert_type(ssno.models.SSNO2d(1, 1).advance(x, state), tuple[Tensor, Tensor | None])
    assert_type(ssno.models.MambaNO2d(1, 1).forward(x), Tensor)


def stand_ins(x: Tensor, p: Tensor, flag: bool) -> None:
    compat.install(override=["mamba_ssm"])
    assert_type(mamba_ssm.selective_scan_fn(x, x, p, x, x), Tensor)
    assert_type(mamba_ssm.selective_scan_fn(x, x, p, x, x, return_last_state=True), Pair)
    assert_type(mamba_ssm.selective_scan_fn(x, x, p, x, x, return_last_state=flag), Tensor | Pair)
    assert_type(mamba_ssm.mamba_inner_fn(x, p, p, p, p, p, p, p), Tensor)
    assert_type(mamba_ssm.selective_state_update(x, x, x, p, x, x), Tensor)
    assert_type(mamba_ssm.Mamba(64).step(x, x, x), tuple[Tensor, Tensor, Tensor])
    assert_type(mamba_ssm.rms_norm_fn(x, p, None, prenorm=True), Pair)
    assert_type(causal_conv1d.causal_conv1d_fn(x, p, activation="silu"), Tensor)
    assert_type(causal_conv1d.causal_conv1d_fn(x, p, return_final_states=True), Pair)
    assert_type(compat.vmamba.cross_scan_fn(x), Tensor)
    assert_type(compat.s4.log_vandermonde(p, p, 32), Tensor)
    assert_type(compat.selective_scan_cuda.fwd(x, x, p, x, x, None, x, None, True), list[Tensor])
