# SPDX-License-Identifier: MIT
"""The forward Triton kernel of the alias-free activation."""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_arguments import decoded, decoded_signal, decoded_tiling, number
from .kernel_triton_math import activate
from .kernel_triton_sweep import (
    copies,
    corner,
    expand,
    load_rows,
    moves,
    reduce,
    slide,
    store_row,
    taps_of,
    tile_of,
    window_taps,
)


@triton.jit(do_not_specialize=["out", "x", "bias", "up_filter", "down_filter"])
def alias_free_activation_fwd_kernel(
    out, x, bias, up_filter, down_filter, steps, scalars, X, Y, T,
    UD: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    VD: tl.constexpr, VH: tl.constexpr, VW: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(A1) to (A5) for one tile: X describes x and its links U, Y out and its links V."""
    dtype: tl.constexpr = up_filter.dtype.element_ty
    gain, slope = number(scalars[0], dtype), number(scalars[1], dtype)
    X, Y, T = decoded_signal(X), decoded_signal(Y), decoded_tiling(T)
    steps = decoded(steps)
    tile = tile_of(T, VD, VW, F)
    plane, _, _, begin, end = tile
    of_x = corner(x, X, tile, T, UD, UW)
    of_out = corner(out, Y, tile, T, VD, VW)
    if bias is not None:
        bias = tl.load(bias + plane % T.channels * steps[2])
    f = taps_of(up_filter, steps[0], UW, UW.rate, False)
    g = taps_of(down_filter, steps[1], VW, 1, True)
    f_h, g_h = (f, g) if UH.filtered else ((1.0,), (1.0,))
    f_d, f_w = window_taps(f, UD, 0, F, dtype), window_taps(f, UW, 1, F, dtype)
    g_d, g_w = window_taps(g, VD, 0, F, dtype), window_taps(g, VW, 1, F, dtype)

    unused = tl.full([F.rows * F.lanes], 0.0, dtype)
    zero = tl.full([UD.phases, UW.phases, F.rows, F.lanes], 0.0, dtype)
    moves_w = moves(VW, zero, 3)
    moves_d = moves(VD, tl.full([UD.phases, 1, F.rows, F.lanes], 0.0, dtype), 2)
    start = begin - (VH.shifts - 1)
    before: tl.constexpr = UH.shifts - 1  # periods that fill the windows
    window = copies(UH.window, zero)
    sums = copies(VH.window, zero)
    for i in range(start - before, end):
        rows = load_rows(i, of_x, X, bias, f_d, f_w, zero, UD, UH, UW)
        window = slide(window, UH.per, rows)
        if i >= start:
            for q in tl.static_range(UH.period):
                t = activate(expand(window, f_h, UH, q), slope, gain, F.activation)
                sums = reduce(sums, g_h, VH, q, t)
        if i >= begin:
            for o in tl.static_range(VH.per):
                n_h = i * VH.per + Y.first[1] + o
                store_row(
                    out, of_out, n_h, Y, sums[o], g_d, g_w, moves_d, moves_w, unused,
                    False, VD, VW, F,
                )  # fmt: skip
        sums = slide(sums, VH.per, copies(VH.per, zero))
