# SPDX-License-Identifier: MIT
"""What the Triton kernels of `damped_conv` share: a tile of samples, and states between its chunks.

A tile is a matrix [C, T] of C chunks of T samples of one channel, as many whole lines as fit, or
one segment of a line longer than that. The chunks of a line (or segment) are neighbouring rows of
the matrix, ascending in time. A last, short chunk is filled up by zeros at its end or, `late`, at
its start.

A walk goes through the chunks of a line from the first or from the last. It takes the samples in by
the powers of lambda of as many steps as are yet to come in the chunk, and is read out by those of
as many as have been: a sweep's are lambda^e and 2 coeff lambda^(e+1), its adjoint's are those two
changed over, and its walk is the other way. So a short chunk is taken in late by a walk from the
first chunk, and read out late by one from the last.

Products of matrices run over slices of the samples of a chunk, which are read anew for each: they
are in the cache, and without tensor cores a whole chunk would not fit into registers.
"""

from __future__ import annotations

import triton.language as tl

from .kernel_triton_math import inline, multiply, widen
from .kernel_triton_tables import load_table


@inline
def tile_of(c, sizes, F: tl.constexpr):
    """Channel, segment; row, chunk, existence of columns c; start; samples and chunks of a line."""
    h = tl.program_id(0) % sizes.channels
    tile = tl.program_id(0) // sizes.channels
    segment = tile % sizes.segments
    start = segment * (F.columns * F.steps)
    samples = tl.minimum(sizes.length - start, F.columns * F.steps)
    chunks = tl.cdiv(samples, F.steps)
    row = tile // sizes.segments * sizes.lines + c // chunks
    exists = (c < sizes.lines * chunks) & (row < sizes.rows)
    return h, segment, row, c % chunks, exists, start, samples, chunks


@inline
def row_offset(row, inner, strides):
    """Where lines begin; `inner` are the sizes of the axes they are counted over but the first."""
    offset = (row * 0).to(tl.int64)
    for i in tl.static_range(len(inner)):
        k: tl.constexpr = len(inner) - 1 - i
        offset += (row % inner[k]).to(tl.int64) * strides[k + 1]
        row = row // inner[k]
    return offset + row.to(tl.int64) * strides[0]


@inline
def chunk_pointers(x, h, row, chunk, start, inner, F: tl.constexpr):
    """[C]"""
    first = x.pointer + h.to(tl.int64) * x.channel + row_offset(row, inner, x.rows)
    return first + (start + chunk * F.steps).to(tl.int64) * x.outer[0]


@inline
def load_slice(p, stride, j, size, dtype: tl.constexpr):
    """Samples j of each chunk [C, j]; size [C] is the number there is in each."""
    mask = (j >= 0) & (j < size[:, None])
    x = tl.load(p[:, None] + j.to(tl.int64) * stride, mask=mask, other=0.0)
    return widen(x, dtype)


@inline
def dot(a, b, sum_, F: tl.constexpr):
    return tl.dot(a, b, sum_, input_precision=F.precision, out_dtype=sum_.dtype)


@inline
def moved_to_start(y, late, F: tl.constexpr):
    """y [C, T] with chunk c moved to its start by late[c]."""
    j = tl.arange(0, F.steps)[None, :] + late[:, None]
    inside = j < F.steps
    return tl.where(inside, tl.gather(y, tl.where(inside, j, 0), 1), 0.0)


@inline
def take_in(
    p, stride, size, late, stop, first_row, last: tl.constexpr, slope: tl.constexpr, table, n,
    dtype: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """What each chunk adds to the state after it; `last`: the walk goes from the last chunk.

    slope: each power times its exponent. No chunk has a sample at `stop` or later.
    """
    x_r = tl.zeros([F.columns, F.block_n], dtype)
    x_i = x_r
    for j0 in range(0, stop, F.slice):
        j = j0 + tl.arange(0, F.slice)
        x = load_slice(p, stride, j[None, :] - late[:, None], size, dtype)
        e = (j if last else F.steps - 1 - j)[:, None]
        w_r, w_i = load_table(table, first_row + e, n[None, :])
        if slope:
            w_r, w_i = w_r * e, w_i * e
        x_r = dot(x, w_r, x_r, F)
        x_i = dot(x, w_i, x_i, F)
    return x_r, x_i


@inline
def read_out(y, s_r, s_i, first_row, last: tl.constexpr, table, n, F: tl.constexpr):
    """Add what the states before the chunks contribute to y."""
    j = tl.arange(0, F.steps)[None, :]
    w_r, w_i = load_table(table, first_row + (F.steps - 1 - j if last else j), n[:, None])
    return dot(-s_i, w_i, dot(s_r, w_r, y, F), F)


@inline
def before(x, steps, last: tl.constexpr, F: tl.constexpr):
    """The rows of x [C, BLOCK_N] so many steps of the walk back; any row where there is none."""
    c = tl.arange(0, F.columns)[:, None]
    index = c + steps if last else c - steps
    index = tl.minimum(tl.maximum(index, 0), F.columns - 1)
    return tl.gather(x, tl.broadcast_to(index, x.shape), 0)


@inline
def accumulate(e_r, e_i, z_r, z_i, place, chunks, last: tl.constexpr, table, n, rest, F):
    """The states before the chunks, from what each adds, e, and the state z before the first.

    `place` counts the chunks in the order of the walk; `rest` are the samples of the last in time.
    By doubling (Hillis and Steele 1986), in which the chunk that may be short comes in first.
    """
    x_r, x_i = before(e_r, 1, last, F), before(e_i, 1, last, F)
    d_r, d_i = load_table(table, rest if last else F.steps, n[None, :])
    m_r, m_i = multiply(d_r, d_i, z_r, z_i)
    x_r = tl.where(place > 0, x_r + tl.where(place == 1, m_r, 0.0), 0.0)
    x_i = tl.where(place > 0, x_i + tl.where(place == 1, m_i, 0.0), 0.0)
    steps = 1
    row = F.steps
    while steps < chunks - 1:
        d_r, d_i = load_table(table, row, n[None, :])
        m_r, m_i = multiply(d_r, d_i, before(x_r, steps, last, F), before(x_i, steps, last, F))
        x_r += tl.where(place > steps, m_r, 0.0)
        x_i += tl.where(place > steps, m_i, 0.0)
        steps *= 2
        row += 1
    return tl.where(place == 0, z_r, x_r), tl.where(place == 0, z_i, x_i)


@inline
def after(e_r, e_i, x_r, x_i, chunks, last: tl.constexpr, table, n, rest, F: tl.constexpr):
    """The states after the chunks that are the last of the walk."""
    steps = tl.where(chunks > 1, F.steps, rest) if last else rest
    d_r, d_i = load_table(table, steps, n[None, :])
    m_r, m_i = multiply(d_r, d_i, x_r, x_i)
    return m_r + e_r, m_i + e_i


@inline
def state_pointers(x, h, sweep: tl.constexpr, segment, row, n, inner):
    """[C, BLOCK_N], the real part."""
    first = x.pointer + segment.to(tl.int64) * x.outer[0] + sweep * x.outer[1]
    first += h.to(tl.int64) * x.channel
    offset = row_offset(row, inner, x.rows)[:, None]
    return first + offset + n.to(tl.int64)[None, :] * x.outer[2]


@inline
def states_of_walk(
    e_r, e_i, enter, leave, segment, row, chunk, exists, samples, chunks, last: tl.constexpr,
    conj: tl.constexpr, table, sweep: tl.constexpr, h, n, inner, sizes, F: tl.constexpr,
):  # fmt: skip
    """The states before the chunks; that before a line is loaded, that after it stored.

    conj: what is loaded and stored are the conjugates of the walk's states.
    """
    sign: tl.constexpr = -1 if conj else 1
    rest = samples - (chunks - 1) * F.steps
    place = (chunks - 1 - chunk if last else chunk)[:, None]
    here = exists[:, None] & (n < sizes.modes)[None, :]
    z_r = tl.zeros_like(e_r)
    z_i = z_r
    if enter is not None:
        p = state_pointers(enter, h, sweep, segment, row, n, inner)
        z_r = tl.load(p, mask=here & (place <= 1), other=0.0)
        z_i = sign * tl.load(p + enter.outer[3], mask=here & (place <= 1), other=0.0)
    if F.periodic:  # (D5); what has been loaded is added to the state after the line
        zero = tl.zeros_like(e_r)
        x_r, x_i = accumulate(e_r, e_i, zero, zero, place, chunks, last, table, n, rest, F)
        f_r, f_i = after(e_r, e_i, x_r, x_i, chunks, last, table, n, rest, F)
        f_r = before(f_r, place - (chunks - 1), last, F) + z_r
        f_i = before(f_i, place - (chunks - 1), last, F) + z_i
        d_r, d_i = load_table(table, F.steps + F.doublings, n[None, :])
        z_r, z_i = multiply(d_r, d_i, f_r, f_i)
    x_r, x_i = accumulate(e_r, e_i, z_r, z_i, place, chunks, last, table, n, rest, F)
    if leave is not None:
        f_r, f_i = after(e_r, e_i, x_r, x_i, chunks, last, table, n, rest, F)
        p = state_pointers(leave, h, sweep, segment, row, n, inner)
        tl.store(p, f_r, mask=here & (place == chunks - 1))
        tl.store(p + leave.outer[3], sign * f_i, mask=here & (place == chunks - 1))
    return x_r, x_i
