# SPDX-License-Identifier: MIT
"""Backward Triton kernels of `damped_conv`: (D6) to (D9) of a tile, and the sums over tiles.

With S the states before a chunk of l samples in the sweep's order, P those before it in the
adjoint's (conjugates of cotangents, and so products without conj), e the steps yet to come in the
chunk, in the order of whose samples it weighs, and m_d = sum_t v_t u_{t-d} within chunks,

    conj(v_coeff) / 2 = lambda sum S w + sum_d m_d lambda^d
    conj(v_rate)  = sum P (r' + l lambda^l S) + 2 coeff (lambda sum S (w + w') + sum_d d m_d lambda^d)

    w = sum_e lambda^e v   w' = sum_e e lambda^e v   r = sum_e lambda^e u   r' = sum_e e lambda^e u

where sums without a name run over all chunks. v_u is the transposed convolution of v.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_arguments import Sizes
from .kernel_triton_fwd import within_chunks
from .kernel_triton_math import inline, multiply
from .kernel_triton_tables import load_table, row_of_gains, table_of
from .kernel_triton_tile import (
    chunk_pointers,
    dot,
    load_slice,
    moved_to_start,
    read_out,
    states_of_walk,
    take_in,
    tile_of,
)


@inline
def lag_sums(u, v, lags, inner, sizes, F: tl.constexpr):
    """Write the tile's sum_t v_t u_{t-d} within chunks at T-1 + d, for -T < d < T."""
    products = tl.zeros([F.steps, F.steps], lags.dtype.element_ty)
    i = tl.arange(0, F.steps)
    for c0 in range(0, tl.minimum(sizes.lines * tl.cdiv(sizes.length, F.steps), F.columns), F.slice):
        c = c0 + tl.arange(0, F.slice)
        h, _, row, chunk, exists, start, samples, _ = tile_of(c, sizes, F)
        size = tl.where(exists, tl.minimum(samples - chunk * F.steps, F.steps), 0)
        p_u = chunk_pointers(u, h, row, chunk, start, inner, F)
        p_v = chunk_pointers(v, h, row, chunk, start, inner, F)
        x = load_slice(p_u, u.outer[0], i[None, :], size, products.dtype)
        y = load_slice(p_v, v.outer[0], i[None, :], size, products.dtype)
        products = dot(tl.trans(y), x, products, F)
    # column d: along the diagonal of lag d, and where that has ended, along that of lag d - T
    d = i[None, :]
    j = i[:, None] - d
    turned = tl.gather(products, tl.where(j < 0, j + F.steps, j), 1)
    p = lags + tl.program_id(0).to(tl.int64) * (2 * F.steps)
    tl.store(p + F.steps - 1 + i, tl.sum(tl.where(j >= 0, turned, 0.0), 0))
    tl.store(p + i - 1, tl.sum(tl.where(j < 0, turned, 0.0), 0), mask=i > 0)


@inline
def store_sum(p, part: tl.constexpr, width, n, x_r, x_i, y_r, y_i):
    """sum x y over the chunks of a tile."""
    z_r, z_i = multiply(x_r, x_i, y_r, y_i)
    tl.store(p + 2 * part * width + n, tl.sum(z_r, 0))
    tl.store(p + (2 * part + 1) * width + n, tl.sum(z_i, 0))


@inline
def adjoint_walk(
    y, p_u, p_v, u_stride, v_stride, size, late, stop, enter, v_enter, v_leave, segment, row, chunk,
    exists, samples, chunks, last: tl.constexpr, wanted: tl.constexpr, tables, sums,
    sweep: tl.constexpr, h, inner, sizes, F: tl.constexpr,
):  # fmt: skip
    """One sweep, which goes from the last chunk or not: its sums; y, if wanted, of its adjoint."""
    table = table_of(tables, sweep, h, sizes.channels, sizes.blocks, F)
    width = sizes.blocks * F.block_n
    sums += (tl.program_id(0).to(tl.int64) * F.sweeps + sweep) * (6 * width)
    here = exists[:, None]
    rest = samples - (chunks - 1) * F.steps
    u_late = size * 0 if last else late
    v_late = late if last else size * 0
    for b in range(0, sizes.blocks):
        n = b * F.block_n + tl.arange(0, F.block_n)
        x_r, x_i = take_in(p_u, u_stride, size, u_late, stop, 0, last, False, table, n, y.dtype, F)
        s_r, s_i = states_of_walk(
            x_r, x_i, enter, None, segment, row, chunk, exists, samples, chunks, last, False, table,
            sweep, h, n, inner, sizes, F,
        )  # fmt: skip
        s_r, s_i = tl.where(here, s_r, 0.0), tl.where(here, s_i, 0.0)
        x_r, x_i = take_in(p_v, v_stride, size, v_late, stop, 0, not last, True, table, n, y.dtype, F)
        store_sum(sums, 1, width, n, s_r, s_i, x_r, x_i)
        x_r, x_i = take_in(p_v, v_stride, size, v_late, stop, 0, not last, False, table, n, y.dtype, F)
        store_sum(sums, 0, width, n, s_r, s_i, x_r, x_i)
        g_r, g_i = load_table(table, row_of_gains(F), n[None, :])
        q_r, q_i = multiply(g_r, g_i, x_r, x_i)
        q_r, q_i = states_of_walk(
            q_r, q_i, v_enter, v_leave, segment, row, chunk, exists, samples, chunks, not last,
            True, table, sweep, h, n, inner, sizes, F,
        )  # fmt: skip
        if wanted:
            y = read_out(y, q_r, q_i, 0, not last, table, n, F)
        q_r, q_i = tl.where(here, q_r, 0.0), tl.where(here, q_i, 0.0)
        a_r, a_i = load_table(table, F.steps, n[None, :])
        b_r, b_i = load_table(table, rest, n[None, :])
        short = (size < F.steps)[:, None]
        a_r, a_i = tl.where(short, b_r, a_r), tl.where(short, b_i, a_i)
        a_r, a_i = multiply(a_r, a_i, s_r, s_i)
        x_r, x_i = take_in(p_u, u_stride, size, u_late, stop, 0, last, True, table, n, y.dtype, F)
        x_r, x_i = x_r + size[:, None] * a_r, x_i + size[:, None] * a_i
        store_sum(sums, 2, width, n, q_r, q_i, x_r, x_i)
    return y


@triton.jit(
    do_not_specialize=[
        "channels", "rows", "length", "modes", "blocks", "lines", "segments", "shift"
    ]
)  # fmt: skip
def damped_conv_bwd_kernel(
    v_u, u, v, enter, v_enter, v_leave, tables, lags, sums, lag_sums_, inner, channels, rows,
    length, modes, blocks, lines, segments, shift, F: tl.constexpr,
):  # fmt: skip
    """v_u of one tile, if it is wanted, and the tile's sums.

    enter, v_enter: the states before its lines of the sweeps and of their adjoints; v_leave: where
    to write those after them.
    """
    sizes = Sizes(channels, rows, length, modes, blocks, lines, segments, shift)
    wanted: tl.constexpr = v_u is not None
    lag_sums(u, v, lag_sums_, inner, sizes, F)
    h, segment, row, chunk, exists, start, samples, chunks = tile_of(
        tl.arange(0, F.columns), sizes, F
    )
    size = tl.where(exists, tl.minimum(samples - chunk * F.steps, F.steps), 0)
    late = tl.where(exists & (shift != 0), F.steps - size, 0)
    stop = tl.where(shift != 0, F.steps, tl.minimum(samples, F.steps))
    p_u = chunk_pointers(u, h, row, chunk, start, inner, F)
    p_v = chunk_pointers(v, h, row, chunk, start, inner, F)
    y = tl.zeros([F.columns, F.steps], tables.dtype.element_ty)
    if F.forward >= 0:
        y = adjoint_walk(
            y, p_u, p_v, u.outer[0], v.outer[0], size, late, stop, enter, v_enter, v_leave, segment, row,
            chunk, exists, samples, chunks, False, wanted, tables, sums, F.forward, h, inner,
            sizes, F,
        )  # fmt: skip
        if wanted and shift != 0:
            y = moved_to_start(y, late, F)
    if wanted:
        y = within_chunks(y, p_v, v.outer[0], size, stop, lags, h, True, F)
    if F.backward >= 0:
        y = adjoint_walk(
            y, p_u, p_v, u.outer[0], v.outer[0], size, late, stop, enter, v_enter, v_leave, segment, row,
            chunk, exists, samples, chunks, True, wanted, tables, sums, F.backward, h, inner,
            sizes, F,
        )  # fmt: skip
    if wanted:
        j = tl.arange(0, F.steps)[None, :]
        to = chunk_pointers(v_u, h, row, chunk, start, inner, F)[:, None]
        tl.store(to + j.to(tl.int64) * v_u.outer[0], y, mask=j < size[:, None])


@inline
def total(p, stride, i, tiles, BLOCK: tl.constexpr):
    """Sum over tiles of the numbers i of each, in float64."""
    sum_ = tl.zeros([i.shape[0]], tl.float64)
    for first in range(0, tiles, BLOCK):
        k = first + tl.arange(0, BLOCK)
        x = tl.load(
            p + k.to(tl.int64)[:, None] * stride + i[None, :], mask=(k < tiles)[:, None], other=0.0
        )
        sum_ += tl.sum(x.to(tl.float64), 0)
    return sum_


@triton.jit(do_not_specialize=["tiles", "channels", "modes", "blocks", "carried"])
def damped_conv_reduce_kernel(
    v_rate, v_coeff, v_D, coeff, tables, sums, lag_sums_, tiles, channels, modes, blocks, carried,
    BLOCK: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """(D8) and v_D of one block of modes of a channel, of one sweep, from the sums of all tiles."""
    h = tl.program_id(0) % channels
    sweep = tl.program_id(0) // channels % F.sweeps
    block = tl.program_id(0) // channels // F.sweeps
    n = block * F.block_n + tl.arange(0, F.block_n)
    d = tl.arange(0, F.steps)
    p = lag_sums_ + h.to(tl.int64) * (2 * F.steps) + F.steps - 1
    stride = channels.to(tl.int64) * (2 * F.steps)
    m = total(p, stride, tl.where(sweep == F.backward, -d, d), tiles, BLOCK)[:, None]
    if v_D is not None:
        tl.store(v_D + h, tl.sum(tl.where(d[:, None] == 0, m, 0.0)), mask=sweep + block == 0)
    table = table_of(tables, sweep, h, channels, blocks, F)
    a_r, a_i = load_table(table, d[:, None], n[None, :])
    near_r, near_i = tl.sum(m * a_r, 0), tl.sum(m * a_i, 0)
    m *= d[:, None]
    slope_r, slope_i = tl.sum(m * a_r, 0), tl.sum(m * a_i, 0)

    width = blocks * F.block_n
    p = sums + (h * F.sweeps + sweep).to(tl.int64) * (6 * width)
    stride = (channels * F.sweeps).to(tl.int64) * (6 * width)
    tiles *= carried
    w_r = total(p, stride, n, tiles, BLOCK)
    w_i = total(p + width, stride, n, tiles, BLOCK)
    x_r = total(p + 2 * width, stride, n, tiles, BLOCK)
    x_i = total(p + 3 * width, stride, n, tiles, BLOCK)
    rest_r = total(p + 4 * width, stride, n, tiles, BLOCK)
    rest_i = total(p + 5 * width, stride, n, tiles, BLOCK)
    a_r, a_i = load_table(table, 1, n)
    w_r, w_i = multiply(a_r, a_i, w_r, w_i)
    x_r, x_i = multiply(a_r, a_i, x_r, x_i)
    i = ((sweep * channels + h).to(tl.int64) * modes + n) * 2
    exists = n < modes
    if v_coeff is not None:
        tl.store(v_coeff + i, 2 * (w_r + near_r), mask=exists)
        tl.store(v_coeff + i + 1, -2 * (w_i + near_i), mask=exists)
    if v_rate is not None:
        c_r = 2 * tl.load(coeff + i, mask=exists, other=0.0)
        c_i = 2 * tl.load(coeff + i + 1, mask=exists, other=0.0)
        g_r, g_i = multiply(c_r, c_i, w_r + x_r + slope_r, w_i + x_i + slope_i)
        tl.store(v_rate + i, rest_r + g_r, mask=exists)
        tl.store(v_rate + i + 1, -(rest_i + g_i), mask=exists)
