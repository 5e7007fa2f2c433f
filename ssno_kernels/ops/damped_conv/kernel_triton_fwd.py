# SPDX-License-Identifier: MIT
"""Triton kernels of `damped_conv` and its transpose: tiles, and what lines carry between them.

Within a chunk the convolution is a T x T Toeplitz matrix; what enters a chunk are the states of
N modes. A tile [C, T] is read once, multiplied by the Toeplitz matrix and, for each sweep and block
of modes, by [T, BLOCK_N] tables into what each chunk adds to the states, which are accumulated over
chunks and read out by [BLOCK_N, T] tables.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_arguments import Sizes
from .kernel_triton_math import decayed, inline, multiply, power
from .kernel_triton_tables import load_rate, row_of_gains, table_of
from .kernel_triton_tile import (
    chunk_pointers,
    dot,
    load_slice,
    moved_to_start,
    read_out,
    row_offset,
    states_of_walk,
    take_in,
    tile_of,
)


@inline
def within_chunks(y, p, stride, size, stop, lags, h, transposed: tl.constexpr, F: tl.constexpr):
    """Add the Toeplitz matrix times the chunks to y."""
    lag_0 = lags + h.to(tl.int64) * (2 * F.steps) + F.steps - 1
    i = tl.arange(0, F.steps)[None, :]
    for j0 in range(0, stop, F.slice):
        j = j0 + tl.arange(0, F.slice)
        x = load_slice(p, stride, j[None, :], size, y.dtype)
        k = tl.load(lag_0 + (j[:, None] - i if transposed else i - j[:, None]))
        y = dot(x, k, y, F)
    return y


@inline
def walk(
    y, p, stride, size, late, stop, enter, leave, segment, row, chunk, exists, samples, chunks,
    last: tl.constexpr, transposed: tl.constexpr, wanted: tl.constexpr, tables,
    sweep: tl.constexpr, h, inner, sizes, F: tl.constexpr,
):  # fmt: skip
    """Add to y, if it is wanted, what comes through states."""
    into = row_of_gains(F) if transposed else 0
    out = 0 if transposed else row_of_gains(F)
    table = table_of(tables, sweep, h, sizes.channels, sizes.blocks, F)
    for b in range(0, sizes.blocks):
        n = b * F.block_n + tl.arange(0, F.block_n)
        e_r, e_i = take_in(
            p, stride, size, size * 0 if last else late, stop, into, last, False, table, n,
            y.dtype, F,
        )  # fmt: skip
        s_r, s_i = states_of_walk(
            e_r, e_i, enter, leave, segment, row, chunk, exists, samples, chunks, last, transposed,
            table, sweep, h, n, inner, sizes, F,
        )  # fmt: skip
        if wanted:
            y = read_out(y, s_r, s_i, out, last, table, n, F)
    return y


@triton.jit(
    do_not_specialize=[
        "channels", "rows", "length", "modes", "blocks", "lines", "segments", "shift"
    ]
)  # fmt: skip
def damped_conv_tile_kernel(
    out, x, enter, leave, tables, lags, inner, channels, rows, length, modes, blocks, lines,
    segments, shift, transposed: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(D2) to (D4) for one tile, or the transposed, (D6), (D7) and (D9).

    The walk from the last chunk comes first: where it matters, it is read out late.
    """
    from_last: tl.constexpr = F.forward if transposed else F.backward
    from_first: tl.constexpr = F.backward if transposed else F.forward
    wanted: tl.constexpr = out is not None
    sizes = Sizes(channels, rows, length, modes, blocks, lines, segments, shift)
    h, segment, row, chunk, exists, start, samples, chunks = tile_of(
        tl.arange(0, F.columns), sizes, F
    )
    size = tl.where(exists, tl.minimum(samples - chunk * F.steps, F.steps), 0)
    late = tl.where(exists & (shift != 0), F.steps - size, 0)
    stop = tl.where(shift != 0, F.steps, tl.minimum(samples, F.steps))
    p = chunk_pointers(x, h, row, chunk, start, inner, F)
    y = tl.zeros([F.columns, F.steps], tables.dtype.element_ty)
    if from_last >= 0:
        y = walk(
            y, p, x.outer[0], size, late, stop, enter, leave, segment, row, chunk, exists, samples,
            chunks, True, transposed, wanted, tables, from_last, h, inner, sizes, F,
        )  # fmt: skip
        if wanted and shift != 0:
            y = moved_to_start(y, late, F)
    if wanted:
        y = within_chunks(y, p, x.outer[0], size, stop, lags, h, transposed, F)
    if from_first >= 0:
        y = walk(
            y, p, x.outer[0], size, late, stop, enter, leave, segment, row, chunk, exists, samples,
            chunks, False, transposed, wanted, tables, from_first, h, inner, sizes, F,
        )  # fmt: skip
    if wanted:
        j = tl.arange(0, F.steps)[None, :]
        to = chunk_pointers(out, h, row, chunk, start, inner, F)[:, None]
        tl.store(to + j.to(tl.int64) * out.outer[0], y, mask=j < size[:, None])


@inline
def over_segments(
    ends, h_r, h_i, i, count, mask, whole_r, whole_i, rest_r, rest_i, segments, from_last,
    sign: tl.constexpr, keep: tl.constexpr,
):  # fmt: skip
    """The state after all segments; `keep`: write those before them in the place of `ends`.

    sign -1: `ends` holds conjugates.
    """
    for j in range(0, segments):
        k = tl.where(from_last, segments - 1 - j, j)
        p = ends + (k.to(tl.int64) * count + i) * 2
        e_r, e_i = tl.load(p, mask=mask, other=0.0), sign * tl.load(p + 1, mask=mask, other=0.0)
        if keep:
            tl.store(p, h_r, mask=mask)
            tl.store(p + 1, sign * h_i, mask=mask)
        is_rest = k == segments - 1
        d_r, d_i = tl.where(is_rest, rest_r, whole_r), tl.where(is_rest, rest_i, whole_i)
        h_r, h_i = multiply(d_r, d_i, h_r, h_i)
        h_r += e_r
        h_i += e_i
    return h_r, h_i


@inline
def carried_pointers(x, sweep, row, h, n, inner):
    p = x.pointer + sweep.to(tl.int64) * x.outer[1] + h.to(tl.int64) * x.channel
    return p + row_offset(row, inner, x.rows) + n.to(tl.int64) * x.outer[2]


@triton.jit(do_not_specialize=["channels", "rows", "length", "modes", "segments"])
def damped_conv_carry_kernel(
    ends, enter, leave, rate, inner, channels, rows, length, modes, segments,
    transposed: tl.constexpr, closed: tl.constexpr, BLOCK: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """Replace what each segment adds to the state by the state before it, in float64.

    `ends` is contiguous (segments, S, rows, H, N, 2); closed: the boundary is periodic.
    """
    sign: tl.constexpr = -1 if transposed else 1
    count = (F.sweeps * rows).to(tl.int64) * channels * modes
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    n = i % modes
    h = i // modes % channels
    row = i // modes // channels % rows
    sweep = tl.minimum(i // modes // channels // rows, F.sweeps - 1)
    from_last = (sweep == F.backward) != transposed
    rate_r, turns = load_rate(rate, sweep, h, n, channels, modes)
    span = (F.columns * F.steps + segments * 0).to(tl.float64)
    whole_r, whole_i = power(rate_r, turns, span)
    rest_r, rest_i = power(rate_r, turns, length.to(tl.float64) - span * (segments - 1))
    h_r = tl.zeros([BLOCK], tl.float64)
    h_i = h_r
    if enter is not None:
        p = carried_pointers(enter, sweep, row, h, n, inner)
        h_r = tl.load(p, mask=mask, other=0.0).to(tl.float64)
        h_i = sign * tl.load(p + enter.outer[3], mask=mask, other=0.0).to(tl.float64)
    if closed:
        zero = tl.zeros_like(h_r)
        f_r, f_i = over_segments(
            ends, zero, zero, i, count, mask, whole_r, whole_i, rest_r, rest_i, segments,
            from_last, sign, False,
        )  # fmt: skip
        q_r, q_i = decayed(rate_r, turns, length.to(tl.float64))
        norm = q_r * q_r + q_i * q_i
        h_r, h_i = multiply(q_r / norm, -q_i / norm, f_r + h_r, f_i + h_i)
    h_r, h_i = over_segments(
        ends, h_r, h_i, i, count, mask, whole_r, whole_i, rest_r, rest_i, segments, from_last, sign,
        True,
    )  # fmt: skip
    if leave is not None:
        p = carried_pointers(leave, sweep, row, h, n, inner)
        tl.store(p, h_r, mask=mask)
        tl.store(p + leave.outer[3], sign * h_i, mask=mask)
