# SPDX-License-Identifier: MIT
"""Triton backend of `alias_free_activation`."""

from __future__ import annotations

from torch import Tensor

from . import composite
from . import kernel_triton_plan as planning
from .arguments import ACTIVATIONS, Arguments, empty_output, output_grid
from .kernel_triton_fwd import alias_free_activation_fwd_kernel


def _constants(P, F):
    return (*(L.constants() for L in (*P.U, *P.V)), F.constants())


def _steps(a: Arguments) -> tuple[int, ...]:
    bias = 0 if a.bias is None else a.bias.stride(0)
    return a.up_filter.stride(0), a.down_filter.stride(0), bias


def alias_free_activation_fwd_triton(*arguments) -> Tensor:
    """out; see `function`."""
    a = Arguments(*arguments)
    grid = output_grid(a.x, a.up_filter, a.down_filter, a.up, a.down, a.padding)
    out = empty_output(a.x, grid)
    P = planning.plan(a)
    if a.x.shape[0] == 0:
        return out
    X, Y = P.signal(a.x, P.first_u), P.signal(out, P.first_v)
    T, F, programs = planning.tiles(P.V, Y, a.x, a.activation)
    options = (planning.split(a.gain), planning.split(a.negative_slope))
    alias_free_activation_fwd_kernel[(programs,)](
        out, a.x, a.bias, a.up_filter, a.down_filter, _steps(a), options, X, Y, T,
        *_constants(P, F), num_warps=max(1, F.rows * F.lanes // 32),
    )  # fmt: skip
    return out
