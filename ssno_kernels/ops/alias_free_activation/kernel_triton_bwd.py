# SPDX-License-Identifier: MIT
"""The backward Triton kernel of the alias-free activation."""

from __future__ import annotations

import triton
import triton.language as tl

from ..selective_scan.kernel_triton_math import inline
from .kernel_triton_arguments import decoded, decoded_signal, decoded_tiling, number
from .kernel_triton_math import derivative
from .kernel_triton_sweep import (
    copies,
    corner,
    expand,
    load_rows,
    moves,
    reduce,
    rows_lanes,
    slide,
    store_row,
    taps_of,
    tile_of,
    window_taps,
    within,
)


@inline
def fine_within(tile, T, D: tl.constexpr, W: tl.constexpr, F: tl.constexpr):
    """Which fine samples of a tile there are along depth and width: [PD, PW, ROWS, LANES]."""
    _, period_d, period_w, _, _ = tile
    q_d = tl.arange(0, D.phases)[:, None, None, None]
    q_w = tl.arange(0, W.phases)[None, :, None, None]
    j_d = tl.reshape(period_d, [1, 1, F.rows, F.lanes]) * D.period + q_d
    j_w = tl.reshape(period_w, [1, 1, F.rows, F.lanes]) * W.period + q_w
    return within(j_d, T.fine[0]) & within(j_w, T.fine[2])


@triton.jit(do_not_specialize=["v_x", "partial", "v_out", "x", "bias", "up_filter", "down_filter"])
def alias_free_activation_bwd_kernel(
    v_x, partial, v_out, x, bias, up_filter, down_filter, steps, scalars, X, Y, V, T,
    UD: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    VD: tl.constexpr, VH: tl.constexpr, VW: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(A6) and (A7) for one tile: X describes x, V v_x and their links U, Y v_out and its links V.

    partial (tiles, B C, depth of tile) takes the sums of v_x over the rest of the tile.
    """
    dtype: tl.constexpr = up_filter.dtype.element_ty
    gain, slope = number(scalars[0], dtype), number(scalars[1], dtype)
    X, Y, T = decoded_signal(X), decoded_signal(Y), decoded_tiling(T)
    V = decoded_signal(V)
    steps = decoded(steps)
    tile = tile_of(T, UD, UW, F)
    plane, _, _, begin, end = tile
    of_x = corner(x, X, tile, T, UD, UW)
    of_v_out = corner(v_out, Y, tile, T, VD, VW)
    of_v_x = of_x if v_x is None else corner(v_x, V, tile, T, UD, UW)
    if bias is not None:
        bias = tl.load(bias + plane % T.channels * steps[2])
    f = taps_of(up_filter, steps[0], UW, UW.rate, False)
    g = taps_of(down_filter, steps[1], VW, 1, True)
    f_h, g_h = (f, g) if UH.filtered else ((1.0,), (1.0,))
    f_d, f_w = window_taps(f, UD, 0, F, dtype), window_taps(f, UW, 1, F, dtype)
    g_d, g_w = window_taps(g, VD, 0, F, dtype), window_taps(g, VW, 1, F, dtype)

    zero = tl.full([UD.phases, UW.phases, F.rows, F.lanes], 0.0, dtype)
    moves_w = moves(UW, zero, 3)
    moves_d = moves(UD, tl.full([UD.phases, 1, F.rows, F.lanes], 0.0, dtype), 2)
    fine = fine_within(tile, T, UD, UW, F)
    total = tl.full([F.rows * F.lanes], 0.0, dtype)
    start = begin - (UH.shifts - 1)
    before: tl.constexpr = max(UH.shifts, VH.shifts) - 1  # periods that fill the windows
    window = copies(UH.window, zero)
    v_window = copies(VH.window, zero)
    sums = copies(UH.window, zero)
    for i in range(start - before, end):
        rows = load_rows(i, of_x, X, bias, f_d, f_w, zero, UD, UH, UW)
        window = slide(window, UH.per, rows)
        rows = load_rows(i, of_v_out, Y, None, g_d, g_w, zero, VD, VH, VW)
        v_window = slide(v_window, VH.per, rows)
        if i >= start:
            for q in tl.static_range(UH.period):
                s = expand(window, f_h, UH, q)
                v_s = expand(v_window, g_h, VH, q) * derivative(s, slope, gain, F.activation)
                v_s = tl.where(fine & within(i * UH.period + q, T.fine[1]), v_s, 0.0)
                sums = reduce(sums, f_h, UH, q, v_s)
        if i >= begin:
            for o in tl.static_range(UH.per):
                n_h = i * UH.per + X.first[1] + o
                total = store_row(
                    v_x, of_v_x, n_h, V, sums[o], f_d, f_w, moves_d, moves_w, total,
                    partial is not None, UD, UW, F,
                )  # fmt: skip
        sums = slide(sums, UH.per, copies(UH.per, zero))
    if partial is not None:
        part = tl.program_id(0) % (T.strips * T.tiles_w * T.tiles_d)
        row, lane = rows_lanes(F)
        p = partial + (part.to(tl.int64) * T.planes + plane) * F.depth + row % F.depth
        sums = tl.sum(tl.reshape(total, [F.rows, F.lanes]), 1, keep_dims=True)
        sums = tl.reshape(tl.broadcast_to(sums, [F.rows, F.lanes]), [F.rows * F.lanes])
        tl.store(p, sums, mask=(plane < T.planes) & (lane == 0))
