# SPDX-License-Identifier: MIT
"""Backward Triton kernels of `damped_conv`: (D8), from sums over the chunks of tiles.

v_u, and the cotangent of the initial state, are the transposed convolution's (`kernel_triton_fwd`).
With S the states before a chunk of l samples in the sweep's order, P those before it in the
adjoint's (conjugates of cotangents, and so products without conj), e the steps yet to come in the
chunk in the order of what it weighs, and m_d = sum_t v_t u_{t-d} within chunks,

    conj(v_coeff) = 2 (lambda sum S w + sum_d m_d lambda^d)
    conj(v_rate) = sum P (r' + l lambda^l S)
                   + 2 coeff (lambda sum S (w + w') + sum_d d m_d lambda^d)

    w = sum_e lambda^e v   w' = sum_e e lambda^e v   r = sum_e lambda^e u   r' = sum_e e lambda^e u

where sums without an index run over all chunks. The sums of each tile are written, and added up in
float64 in an order that is always the same.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_arguments import Sizes
from .kernel_triton_math import inline, multiply
from .kernel_triton_tables import load_table, row_of_gains, table_of
from .kernel_triton_tile import (
    chunk_pointers,
    dot,
    load_slice,
    states_of_walk,
    take_in,
    tile_of,
)


@inline
def lag_sums(later, earlier, to, inner, sizes, F: tl.constexpr):
    """Write the tile's m_d of 0 <= d < T; `later` is v or, of a backward sweep, u."""
    products = tl.zeros([F.steps, F.steps], to.dtype.element_ty)
    i = tl.arange(0, F.steps)
    columns = tl.minimum(sizes.lines * tl.cdiv(sizes.length, F.steps), F.columns)
    for c0 in range(0, columns, F.column_slice):
        c = c0 + tl.arange(0, F.column_slice)
        h, _, row, chunk, exists, start, samples, _ = tile_of(c, sizes, F)
        size = tl.where(exists, tl.minimum(samples - chunk * F.steps, F.steps), 0)
        p = chunk_pointers(later, h, row, chunk, start, inner, F)
        q = chunk_pointers(earlier, h, row, chunk, start, inner, F)
        x = load_slice(p, later.outer[0], i[None, :], size, products.dtype)
        y = load_slice(q, earlier.outer[0], i[None, :], size, products.dtype)
        products = dot(tl.trans(x), y, products, F)
    j = i[:, None] - i[None, :]  # of lag d in column d
    diagonals = tl.where(j >= 0, tl.gather(products, tl.maximum(j, 0), 1), 0.0)
    tl.store(to + tl.program_id(0).to(tl.int64) * F.steps + i, tl.sum(diagonals, 0))


@inline
def store_sum(p, part: tl.constexpr, width, n, x_r, x_i, y_r, y_i):
    """sum x y over the chunks of a tile."""
    z_r, z_i = multiply(x_r, x_i, y_r, y_i)
    tl.store(p + 2 * part * width + n, tl.sum(z_r, 0))
    tl.store(p + (2 * part + 1) * width + n, tl.sum(z_i, 0))


@triton.jit(
    do_not_specialize=[
        "channels", "rows", "length", "modes", "blocks", "lines", "segments", "shift"
    ]
)  # fmt: skip
def damped_conv_sums_kernel(
    u, v, enter, v_enter, tables, lags_of_tiles, sums, inner, channels, rows, length, modes,
    blocks, lines, segments, shift, sweep: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """One tile's sums for one sweep: S w, S w', P (r' + l lambda^l S), and the m_d.

    enter, v_enter: the states before its lines of the sweep and of its adjoint.
    """
    dtype: tl.constexpr = tables.dtype.element_ty
    last: tl.constexpr = sweep == F.backward
    sizes = Sizes(channels, rows, length, modes, blocks, lines, segments, shift)
    lag_sums(u if last else v, v if last else u, lags_of_tiles, inner, sizes, F)
    h, segment, row, chunk, exists, start, samples, chunks = tile_of(
        tl.arange(0, F.columns), sizes, F
    )
    size = tl.where(exists, tl.minimum(samples - chunk * F.steps, F.steps), 0)
    late = tl.where(exists & (shift != 0), F.steps - size, 0)
    stop = tl.where(shift != 0, F.steps, tl.minimum(samples, F.steps))
    late_u = size * 0 if last else late
    late_v = late if last else size * 0
    p = chunk_pointers(u, h, row, chunk, start, inner, F)
    q = chunk_pointers(v, h, row, chunk, start, inner, F)
    table = table_of(tables, sweep, h, channels, blocks, F)
    width = blocks * F.block_n
    sums += tl.program_id(0).to(tl.int64) * (6 * width)
    here = exists[:, None]
    for b in range(0, blocks):
        n = b * F.block_n + tl.arange(0, F.block_n)
        x_r, x_i = take_in(p, u.outer[0], size, late_u, stop, 0, last, False, table, n, dtype, F)
        s_r, s_i = states_of_walk(
            x_r, x_i, enter, None, segment, row, chunk, exists, samples, chunks, last, False,
            table, sweep, h, n, inner, sizes, F,
        )  # fmt: skip
        s_r, s_i = tl.where(here, s_r, 0.0), tl.where(here, s_i, 0.0)
        x_r, x_i = take_in(q, v.outer[0], size, late_v, stop, 0, not last, True, table, n, dtype, F)
        store_sum(sums, 1, width, n, s_r, s_i, x_r, x_i)
        x_r, x_i = take_in(
            q, v.outer[0], size, late_v, stop, 0, not last, False, table, n, dtype, F
        )
        store_sum(sums, 0, width, n, s_r, s_i, x_r, x_i)
        g_r, g_i = load_table(table, row_of_gains(F), n[None, :])
        x_r, x_i = multiply(g_r, g_i, x_r, x_i)
        q_r, q_i = states_of_walk(
            x_r, x_i, v_enter, None, segment, row, chunk, exists, samples, chunks, not last, True,
            table, sweep, h, n, inner, sizes, F,
        )  # fmt: skip
        q_r, q_i = tl.where(here, q_r, 0.0), tl.where(here, q_i, 0.0)
        a_r, a_i = load_table(table, size[:, None], n[None, :])
        a_r, a_i = multiply(a_r, a_i, s_r * size[:, None], s_i * size[:, None])
        x_r, x_i = take_in(p, u.outer[0], size, late_u, stop, 0, last, True, table, n, dtype, F)
        store_sum(sums, 2, width, n, q_r, q_i, x_r + a_r, x_i + a_i)


@inline
def total(p, stride, i, tiles, BLOCK: tl.constexpr):
    """Sum over tiles of the numbers i >= 0 of each, in float64."""
    sum_ = tl.zeros([i.shape[0]], tl.float64)
    for first in range(0, tiles, BLOCK):
        k = first + tl.arange(0, BLOCK)
        x = tl.load(
            p + k.to(tl.int64)[:, None] * stride + i[None, :],
            mask=(k < tiles)[:, None] & (i >= 0)[None, :],
            other=0.0,
        )
        sum_ += tl.sum(x.to(tl.float64), 0)
    return sum_


@inline
def part_of(x, i: tl.constexpr):
    """Row i of x [8, BLOCK_N]."""
    return tl.sum(tl.where(tl.arange(0, 8)[:, None] == i, x, 0.0), 0)


@triton.jit(do_not_specialize=["tiles", "channels", "modes", "blocks", "carried"])
def damped_conv_reduce_kernel(
    v_rate, v_coeff, v_D, coeff, tables, sums, lags_of_tiles, tiles, channels, modes, blocks,
    carried, BLOCK: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(D8) and v_D of one block of modes of a channel, of one sweep, from the sums of all tiles."""
    h = tl.program_id(0) % channels
    sweep = tl.program_id(0) // channels % F.sweeps
    block = tl.program_id(0) // channels // F.sweeps
    n0 = block * F.block_n
    n = n0 + tl.arange(0, F.block_n)
    d = tl.arange(0, F.steps)
    tile = (sweep * tiles).to(tl.int64) * channels + h  # the first one, of all those of sweeps
    m = total(lags_of_tiles + tile * F.steps, channels * F.steps, d, tiles, BLOCK)[:, None]
    if v_D is not None:
        tl.store(v_D + h, tl.sum(tl.where(d[:, None] == 0, m, 0.0)), mask=sweep + block == 0)
    table = table_of(tables, sweep, h, channels, blocks, F)
    a_r, a_i = load_table(table, d[:, None], n[None, :])
    near_r, near_i = tl.sum(m * a_r, 0), tl.sum(m * a_i, 0)
    m *= d[:, None]
    slope_r, slope_i = tl.sum(m * a_r, 0), tl.sum(m * a_i, 0)

    width = blocks * F.block_n
    i = tl.arange(0, 8 * F.block_n)  # of six sums, each of their real and imaginary parts
    of_block = tl.where(i < 6 * F.block_n, i // F.block_n * width + n0 + i % F.block_n, -1)
    p = sums + tile * (6 * width)
    parts = total(p, channels * 6 * width, of_block, tiles * carried, BLOCK)
    parts = tl.reshape(parts, [8, F.block_n])
    a_r, a_i = load_table(table, 1, n)
    w_r, w_i = multiply(a_r, a_i, part_of(parts, 0), part_of(parts, 1))
    x_r, x_i = multiply(a_r, a_i, part_of(parts, 2), part_of(parts, 3))
    i = ((sweep * channels + h).to(tl.int64) * modes + n) * 2
    exists = n < modes
    if v_coeff is not None:
        tl.store(v_coeff + i, 2 * (w_r + near_r), mask=exists)
        tl.store(v_coeff + i + 1, -2 * (w_i + near_i), mask=exists)
    if v_rate is not None:
        c_r = 2 * tl.load(coeff + i, mask=exists, other=0.0)
        c_i = 2 * tl.load(coeff + i + 1, mask=exists, other=0.0)
        g_r, g_i = multiply(c_r, c_i, w_r + x_r + slope_r, w_i + x_i + slope_i)
        tl.store(v_rate + i, part_of(parts, 4) + g_r, mask=exists)
        tl.store(v_rate + i + 1, -(part_of(parts, 5) + g_i), mask=exists)
