# SPDX-License-Identifier: MIT
"""Triton backend of `alias_free_activation`.

A program takes a tile of planes by width, or of depth by width, and sweeps the height. The window
of rows that a period is expanded from, and the sums that are open, stay in registers; so does the
upsampled signal, of which one row of phases exists at a time. Neighbours along the width are loaded
on the way in (from the cache, but for the first time) and shuffled between threads on the way out.
No tap meets an inserted zero. Tiles overlap by the reach of the filters, about 5 of 32 samples.

The backward does the same with two signals on the way in, x and v_out, and one on the way out, v_x.
v_bias is a sum over tiles of their own sums, in an order that is always the same. Beyond the
results there is that one number for each tile and plane.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import kernel_triton_plan as planning
from .arguments import ACTIVATIONS, Arguments, empty_output, output_grid
from .kernel_triton_arguments import encoded, split
from .kernel_triton_bwd import alias_free_activation_bwd_kernel
from .kernel_triton_fwd import alias_free_activation_fwd_kernel


def alias_free_activation_fwd_triton(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int, down: int,
    padding: list[int], activation: int, negative_slope: float, gain: float,
) -> Tensor:  # fmt: skip
    """out; see `function`."""
    a = Arguments(
        x, up_filter, down_filter, bias, up, down, tuple(padding), ACTIVATIONS[activation],
        negative_slope, gain,
    )  # fmt: skip
    grid = output_grid(a.x, a.up_filter, a.down_filter, a.up, a.down, a.padding)
    out = empty_output(a.x, grid)
    if out.numel() == 0:
        return out
    P = planning.plan(a)
    X, Y = P.signal(a.x, P.first_u), P.signal(out, P.first_v)
    T, F, programs = planning.tiles(P.V, Y, a.x, P.fine, activation)
    alias_free_activation_fwd_kernel[(programs,)](
        out, *_inputs(a), *encoded((X, Y, T)), *P.constants(), F.constants(),
        num_warps=planning.warps(F),
    )  # fmt: skip
    return out


def alias_free_activation_bwd_triton(
    v_out: Tensor, x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int,
    down: int, padding: list[int], activation: int, negative_slope: float, gain: float,
    needs: list[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(v_x, v_bias); see `function`."""
    need_x, need_bias = needs
    a = Arguments(
        x, up_filter, down_filter, bias, up, down, tuple(padding), ACTIVATIONS[activation],
        negative_slope, gain,
    )  # fmt: skip
    v_x = torch.empty_like(a.x) if need_x else None
    partial = None
    if v_out.numel() == 0:
        partial = a.up_filter.new_zeros(1, *a.x.shape[:2], 1)
    else:
        P = planning.plan(a)
        X, Y = P.signal(a.x, P.first_u), P.signal(v_out, P.first_v)
        T, F, programs = planning.tiles(P.U, X, a.x, P.fine, activation)
        if need_bias:
            parts = T.strips * T.tiles_w * T.tiles_d
            partial = a.up_filter.new_empty(parts, *a.x.shape[:2], F.depth)
        V = X if v_x is None else P.signal(v_x, P.first_u)
        alias_free_activation_bwd_kernel[(programs,)](
            v_x, partial, v_out, *_inputs(a), *encoded((X, Y, V, T)), *P.constants(),
            F.constants(), num_warps=planning.warps(F),
        )  # fmt: skip
    empty = a.x.new_empty(0)
    v_bias = empty if partial is None or not need_bias else partial.sum((0, 1, 3))
    return empty if v_x is None else v_x, v_bias


def _inputs(a: Arguments) -> tuple[object, ...]:
    """Tensors, steps between taps and biases, gain and slope."""
    steps = [0 if t is None else t.stride(0) for t in (a.up_filter, a.down_filter, a.bias)]
    numbers = (split(a.gain), split(a.negative_slope))
    return a.x, a.bias, a.up_filter, a.down_filter, encoded(tuple(steps)), numbers
