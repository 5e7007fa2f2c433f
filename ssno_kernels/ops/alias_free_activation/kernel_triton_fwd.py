# SPDX-License-Identifier: MIT
"""The forward Triton kernel of the alias-free activation."""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_math import activate
from .kernel_triton_sweep import (
    corner,
    expand,
    finished,
    kept,
    load_rows,
    number,
    place_of,
    reduce,
    slide,
    taps_of,
    window_taps,
    within,
    zeros,
)

RUNTIME = ["X", "Y", "T", "steps", "options"]


@triton.jit(do_not_specialize=RUNTIME)
def alias_free_activation_fwd_kernel(
    out, x, bias, up_filter, down_filter, steps, options, X, Y, T,
    UD: tl.constexpr, UH: tl.constexpr, UW: tl.constexpr,
    VD: tl.constexpr, VH: tl.constexpr, VW: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(A1) to (A5) for one tile: X describes x and its links U, Y out and its links V."""
    dtype: tl.constexpr = up_filter.dtype.element_ty
    gain, slope = number(options[0], dtype), number(options[1], dtype)
    plane, period_d, period_w, begin, end = place_of(T, VD.shifts, VW.shifts, F)
    planes = (plane < T.planes)[:, None]
    from_x = corner(x, X, plane, period_d, period_w, T.channels, UD, UW)
    to_out = corner(out, Y, plane, period_d, period_w, T.channels, VD, VW)
    offset = None
    if bias is not None:
        offset = tl.load(bias + plane % T.channels * steps[2])[:, None]
    f_h = taps_of(up_filter, steps[0], UH, UH.rate, False)
    g_h = taps_of(down_filter, steps[1], VH, 1, True)
    f_w = window_taps(taps_of(up_filter, steps[0], UW, UW.rate, False), UW, dtype)
    g_w = window_taps(taps_of(down_filter, steps[1], VW, 1, True), VW, dtype)
    f_d, g_d = f_w, g_w
    if F.depth:
        f_d = window_taps(taps_of(up_filter, steps[0], UD, UD.rate, False), UD, dtype)
        g_d = window_taps(taps_of(down_filter, steps[1], VD, 1, True), VD, dtype)

    start = begin - (VH.shifts - 1)
    window = load_rows(
        0, UH.window - UH.per, start, from_x, X, planes, offset, f_d, f_w, UD, UH, UW, F, dtype
    )
    like = tl.zeros([UD.phases, UW.phases, F.rows, F.lanes], dtype)
    sums = zeros(VH.window, like)
    for I in range(start, end):
        window = window + load_rows(
            UH.window - UH.per, UH.per, I, from_x, X, planes, offset, f_d, f_w, UD, UH, UW, F, dtype
        )
        for q in tl.static_range(UH.period):
            t = activate(expand(window, f_h, UH, q), slope, gain, F.activation)
            sums = reduce(sums, g_h, VH, q, t)
        if I >= begin:
            for o_h in tl.static_range(VH.per):
                n_h = I * VH.per + Y.first[1] + o_h
                for o_d in tl.static_range(VD.per):
                    for o_w in tl.static_range(VW.per):
                        y = finished(sums[o_h], g_d, g_w, VD, o_d, VW, o_w, F)
                        mask = kept(to_out, planes, Y, o_d, o_w, VD, VW, F)
                        p = to_out[0] + tl.cast(n_h, tl.int64) * Y.stride[3]
                        p += o_d * Y.stride[2] + o_w * Y.stride[4]
                        tl.store(
                            p, y.to(out.dtype.element_ty), mask=mask & within(n_h, Y.size[1])
                        )
        window = slide(window, UH.per, ())
        sums = slide(sums, VH.per, zeros(VH.per, like))
