# SPDX-License-Identifier: MIT
"""The stand-ins for the compiled extensions of mamba_ssm and VMamba, against plain loops."""

from __future__ import annotations

import pytest
import torch
from compat_loops import TINY, B, D, L, N, as_leaves, assert_all, gradients, inputs, scan_loop
from harness import relative_error
from torch.nn.functional import silu, softplus

from ssno_kernels.compat import (
    selective_scan_cuda,
    selective_scan_cuda_core,
    selective_scan_cuda_oflex,
)
from ssno_kernels.compat.raw import CHUNK


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("length", [L, CHUNK + 5])
def test_raw_forward_keeps_states_of_chunks(kind, length):
    """x holds products and states in turns at the end of each 2048 steps."""
    given = inputs(length, kind, groups=1)
    out, x, out_z = selective_scan_cuda.fwd(*given.values(), True)
    ungated = {k: v for k, v in given.items() if k != "z"}
    expected, last = scan_loop(**ungated, delta_softplus=True)
    assert_all({"out": out, "z": out_z}, {"out": expected, "z": expected * silu(given["z"])})
    assert x.shape == (B, D, -(-length // CHUNK), 2 * N)
    assert relative_error(x[:, :, -1, 1::2], last) < TINY
    dt = softplus(given["delta"] + given["delta_bias"][:, None])
    for chunk in range(x.shape[2]):
        total = dt[..., : (chunk + 1) * CHUNK].sum(-1, keepdim=True)
        product = torch.exp(total * given["A"])
        assert (x[:, :, chunk, 0::2] - product).abs().max() < TINY


@pytest.mark.parametrize("extras", ["D z delta_bias", ""])
def test_raw_backward(extras):
    given = inputs(groups=2, extras=extras)
    leaves = as_leaves(given)
    full = {k: given.get(k) for k in inputs()}
    expected, _ = scan_loop(**leaves, delta_softplus=True)
    v = torch.randn_like(expected)
    want = gradients(expected, leaves, v)
    has_z = "z" in given
    dz = torch.empty_like(v) if has_z else None
    results = selective_scan_cuda.bwd(*full.values(), v, None, None, dz, True, has_z)
    names = ["u", "delta", "A", "B", "C", "D", "delta_bias", *(["z", "out_z"] if has_z else [])]
    assert len(results) == len(names)
    got = dict(zip(names, results, strict=True))
    assert all(got[name] is None for name in names if name not in leaves and name != "out_z")
    assert_all(got, want)
    if has_z:
        assert got["z"] is dz
        assert relative_error(got["out_z"], expected) < TINY


def test_oflex_and_core_of_vmamba():
    given = {
        k: v.half() if v.dim() > 2 else v.float() for k, v in inputs(extras="D delta_bias").items()
    }
    given["B"], given["C"] = given["B"][:, None], given["C"][:, None]
    expected, last = scan_loop(**{k: v.double() for k, v in given.items()}, delta_softplus=True)
    out, x = selective_scan_cuda_oflex.fwd(*given.values(), True, 1, True)
    assert out.dtype == torch.float32 and relative_error(out, expected) < 1e-6
    assert relative_error(x[:, :, -1, 1::2], last) < 1e-6
    narrow, _ = selective_scan_cuda_oflex.fwd(*given.values(), True, 1, False)
    core, x_core = selective_scan_cuda_core.fwd(*given.values(), True, 1)
    assert (
        torch.equal(x_core, x)
        and narrow.dtype == core.dtype == torch.half
        and torch.equal(narrow, core)
    )
    leaves = as_leaves({k: v.double() for k, v in given.items()})
    v = torch.randn_like(out)
    want = gradients(scan_loop(**leaves, delta_softplus=True)[0], leaves, v.double())
    for module in (selective_scan_cuda_oflex, selective_scan_cuda_core):
        got = dict(zip(leaves, module.bwd(*given.values(), v, x, True, 1), strict=True))
        assert all(got[k].dtype == given[k].dtype for k in got)
        assert_all(got, want, 2e-3)


def test_oflex_shares_step_sizes():
    """delta and delta_bias of two channels serve four of u."""
    given = inputs(groups=1, extras="D delta_bias")
    few = {"delta": given["delta"][:, :2], "delta_bias": given["delta_bias"][:2]}
    spread = {k: v.repeat_interleave(2, 1 if v.dim() == 3 else 0) for k, v in few.items()}
    out, _ = selective_scan_cuda_oflex.fwd(*(given | few).values(), True, 1, True)
    assert relative_error(out, scan_loop(**(given | spread), delta_softplus=True)[0]) < TINY
    leaves = as_leaves(given | few)
    shared = {
        k: v.repeat_interleave(2, 1 if v.dim() == 3 else 0) for k, v in leaves.items() if k in few
    }
    v = torch.randn_like(out)
    want = gradients(scan_loop(**(leaves | shared), delta_softplus=True)[0], leaves, v)
    got = selective_scan_cuda_oflex.bwd(*leaves.values(), v, None, True, 1)
    assert_all(dict(zip(leaves, got, strict=True)), want)
