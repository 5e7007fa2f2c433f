# SPDX-License-Identifier: MIT
"""Triton backend of `selective_scan`: a sequence is a grid of one axis."""

from __future__ import annotations

import torch
from torch import Tensor

from .function import checkpoint_rows
from .kernel_triton_arguments import Inputs
from .kernel_triton_bwd import Gradients
from .kernel_triton_launch import backward, forward


def selective_scan_fwd_triton(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, bias: Tensor | None, weight: Tensor | None, initial_state: Tensor | None,
    softplus: bool, reverse: bool, want_state: bool, interval: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(out, final_state, checkpoints); see `function`."""
    batch, channels, length = u.shape
    out = torch.empty_like(u)
    final = A.new_empty(batch, *A.shape) if want_state else None
    checkpoints = None
    if interval:
        rows = checkpoint_rows(length, interval, A[0].numel())
        checkpoints = A.new_empty(batch, rows, channels)
        checkpoints[:, -2:] = 0
    X = Inputs(u, delta, A, B, C, D, z, bias, weight, initial_state)
    forward(X, softplus, reverse, out, final=final, checkpoints=checkpoints, interval=interval)
    final, checkpoints = (A.new_empty(0) if x is None else x for x in (final, checkpoints))
    return out, final, checkpoints


def selective_scan_bwd_triton(
    v_out: Tensor, v_final_state: Tensor | None, checkpoints: Tensor, u: Tensor, delta: Tensor,
    A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, bias: Tensor | None,
    weight: Tensor | None, initial_state: Tensor | None, softplus: bool, reverse: bool,
    interval: int, needs: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    """The ten cotangents; see `function`."""
    X = Inputs(u, delta, A, B, C, D, z, bias, weight, initial_state)
    results = Gradients(*(
        torch.empty_like(x) if need and x is not None else None
        for need, x in zip(needs, X, strict=True)
    ))  # fmt: skip
    backward(X, softplus, reverse, v_out, v_final_state, results, checkpoints, interval)
    return tuple(u.new_empty(0) if v is None else v for v in results)
