# SPDX-License-Identifier: MIT
"""What the Triton kernels of `selective_scan` share: tiles, places in them, one step of the scan.

A program is one warp. Its states are a tile [BLOCK_D, BLOCK_N] whose layout follows from the
contiguous load of A: a thread holds four neighbouring states of several channels, so that sums
over states are mostly, and sums over channels partly, inside a thread. What is the same for all
states is computed once, on tiles [BLOCK_D, T] of T steps; `steps_of` hands their steps out.
"""

from __future__ import annotations

import triton.language as tl

from .kernel_triton_math import LOG2E, TURN, inline, multiply, softplus, widen


@inline
def columns(x):
    """The columns of a tile [rows, T], T a power of two above 1, as a tuple of T vectors."""
    if x.shape[1] == 2:
        return tl.split(x)
    else:
        even, odd = tl.split(tl.reshape(x, [x.shape[0], x.shape[1] // 2, 2]))
        return interleave(columns(even), columns(odd))


@inline
def interleave(even, odd):
    merged = ()
    for i in tl.static_range(len(even)):
        merged = merged + (even[i], odd[i])  # noqa: RUF005
    return merged


@inline
def steps_of(x, F: tl.constexpr):
    """The columns of a tile of T times, in the order of the sweep."""
    forward = columns(x)
    if F.reverse:
        backward = ()
        for i in tl.static_range(F.steps):
            backward = backward + (forward[F.steps - 1 - i],)  # noqa: RUF005
        return backward
    else:
        return forward


@inline
def with_step(tile, i: tl.constexpr, column, F: tl.constexpr):
    """The tile with the column of sweep step i replaced."""
    k = tl.arange(0, F.steps)[None, :]
    if F.reverse:
        return tl.where(k == F.steps - 1 - i, column[:, None], tile)
    else:
        return tl.where(k == i, column[:, None], tile)


@inline
def load(pointers, mask, dtype: tl.constexpr):
    """A tile in the state's dtype, 0 where masked."""
    return widen(tl.load(pointers, mask=mask, other=0.0), dtype)


@inline
def channels_of(group, block, sizes, F: tl.constexpr):
    """The channels of a block, and which of them exist."""
    per_group = sizes.channels // sizes.groups
    d = block * F.block_d + tl.arange(0, F.block_d)
    return (group * per_group + d).to(tl.int64), d < per_group


@inline
def states_of(n0, F: tl.constexpr):
    """The states of a block, and which of them exist."""
    n = n0 + tl.arange(0, F.block_n)
    return n, n < F.states


@inline
def first_time(s, count, sizes, F: tl.constexpr):
    """The least time among `count` sweep steps from s on; a reverse sweep may reach below 0."""
    if F.reverse:
        return sizes.length - count - s
    else:
        return s


@inline
def place_of(t, sizes, F: tl.constexpr):
    """Where times are on the axes of the grid, the slowest first."""
    if F.axes == 1:
        return (t,)
    elif F.axes == 2:
        return t // sizes.inner[0], t % sizes.inner[0]
    else:
        row = t // sizes.inner[1]
        return row // sizes.inner[0], row % sizes.inner[0], t % sizes.inner[1]


@inline
def times_of(s, sizes, F: tl.constexpr):
    """Times of the T sweep steps from s on, ascending, their places, and which of them exist."""
    t = first_time(s, F.steps, sizes, F) + tl.arange(0, F.steps)
    if F.reverse:
        return t, place_of(t, sizes, F), t >= 0
    else:
        return t, place_of(t, sizes, F), t < sizes.length


@inline
def load_parameter(pointer, d, n, mask, sizes, F: tl.constexpr):
    """A tile of A, or of a constant B or C, from planes (D, N)."""
    p = pointer + d[:, None] * F.states + n[None, :]
    r = tl.load(p, mask=mask, other=0.0)
    if F.is_complex:
        return r, tl.load(p + sizes.channels.to(tl.int64) * F.states, mask=mask, other=0.0)
    else:
        return r, r


@inline
def load_A(pointer, d, n, mask, sizes, F: tl.constexpr):
    """The scaled A; infinity as the largest number, since a step that does not exist has dt = 0."""
    r, i = load_parameter(pointer, d, n, mask, sizes, F)
    largest: tl.constexpr = 1.7e308 if r.dtype == tl.float64 else 3.4e38
    r *= LOG2E
    r = tl.where(r > largest, largest, tl.where(r < -largest, -largest, r))  # leaves NaN
    return r, i * (1 / TURN)


@inline
def state_pointers(pointer, strides, c, b, d, n):
    """Strides of a state: chunk, batch, channel, state, imaginary part."""
    row = pointer + c.to(tl.int64) * strides[0] + b.to(tl.int64) * strides[1]
    return row + d[:, None] * strides[2] + n.to(tl.int64)[None, :] * strides[3]


@inline
def load_state(pointer, strides, c, b, d, n, mask, dtype: tl.constexpr, F: tl.constexpr):
    """The state tile, or zeros where there is none."""
    if pointer is None:
        r = tl.zeros([F.block_d, F.block_n], dtype)
        return r, r
    else:
        p = state_pointers(pointer, strides, c, b, d, n)
        r = tl.load(p, mask=mask, other=0.0)
        if F.is_complex:
            return r, tl.load(p + strides[4], mask=mask, other=0.0)
        else:
            return r, r


@inline
def store_state(pointer, strides, c, b, d, n, mask, h_r, h_i, F: tl.constexpr):
    p = state_pointers(pointer, strides, c, b, d, n)
    tl.store(p, h_r, mask=mask)
    if F.is_complex:
        tl.store(p + strides[4], h_i, mask=mask)


@inline
def checkpoint_pointers(checkpoints, i, b, d, n, sizes, F: tl.constexpr):
    """Where checkpoint i lies in (B, rows, D); imaginary parts are N D elements further."""
    planes: tl.constexpr = 2 * F.states if F.is_complex else F.states
    saved = (sizes.length + sizes.interval - 1) // sizes.interval - 1
    rows = sizes.scans * saved * planes + 2  # see `function.checkpoint_rows`
    row = b.to(tl.int64) * rows + i * planes + n[None, :]
    return checkpoints + row * sizes.channels + d[:, None]


@inline
def along(rows, place, strides, first: tl.constexpr):
    """Pointers to the rows [., 1] moved to a place, whose strides are those from `first` on."""
    for i in tl.static_range(len(place)):
        rows += place[i].to(tl.int64)[None, :] * strides[first + i]
    return rows


@inline
def row_pointers(pointer, strides, b, d, place):
    """A tile of a tensor (B, D, *grid)."""
    row = pointer + b.to(tl.int64) * strides[0] + d[:, None] * strides[1]
    return along(row, place, strides, 2)


@inline
def load_rows(pointer, strides, b, d, place, mask, dtype: tl.constexpr):
    return load(row_pointers(pointer, strides, b, d, place), mask, dtype)


@inline
def store_rows(pointer, strides, b, d, place, mask, tile):
    p = row_pointers(pointer, strides, b, d, place)
    tl.store(p, tile.to(pointer.dtype.element_ty), mask=mask)


@inline
def load_projection(
    pointer, strides, b, g, n, n_exists, place, t_exists, dtype: tl.constexpr, F: tl.constexpr
):
    """B or C at T steps, as tuples of rows."""
    row = pointer + b.to(tl.int64) * strides[0] + g.to(tl.int64) * strides[1]
    p = along(row + n.to(tl.int64)[:, None] * strides[2], place, strides, 4)
    mask = n_exists[:, None] & t_exists[None, :]
    r = steps_of(load(p, mask, dtype), F)
    if F.is_complex:
        return r, steps_of(load(p + strides[3], mask, dtype), F)
    else:
        return r, r


@inline
def load_B(X, S, b, group, n, n_exists, place, t_exists, constant, sizes, F: tl.constexpr):
    """B at T steps, or the pair `constant`."""
    if F.constant_B:
        return constant
    else:
        g = group // sizes.share_B
        dtype: tl.constexpr = X.A.dtype.element_ty
        return load_projection(X.B, S.B, b, g, n, n_exists, place, t_exists, dtype, F)


@inline
def load_C(X, S, b, group, n, n_exists, place, t_exists, constant, sizes, F: tl.constexpr):
    """C at T steps, or the pair `constant`."""
    if F.constant_C:
        return constant
    else:
        g = group // sizes.share_C
        dtype: tl.constexpr = X.A.dtype.element_ty
        return load_projection(X.C, S.C, b, g, n, n_exists, place, t_exists, dtype, F)


@inline
def at(M, i: tl.constexpr, constant: tl.constexpr):
    """B or C at sweep step i of a tile, broadcastable to the tile of states."""
    if constant:
        return M
    else:
        return M[i][None, :]


@inline
def load_step_size(X, S, b, d, d_exists, place, t_exists, sizes, F: tl.constexpr):
    """(S1) and (S2): dt and d dt / d s as tiles [BLOCK_D, T], 0 where masked."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    mask = d_exists[:, None] & t_exists[None, :]
    if F.rank == 0:
        s = load_rows(X.delta, S.delta, b, d, place, mask, dtype)
    else:
        s = tl.zeros([F.block_d, F.steps], dtype)
        for r in range(F.rank):
            row = tl.zeros([1], tl.int64) + r
            x = load_rows(X.delta, S.delta, b, row, place, t_exists[None, :], dtype)
            w = tl.load(X.weight + r * sizes.channels + d, mask=d_exists, other=0.0)
            s += w[:, None] * x
    if X.bias is not None:
        s += tl.load(X.bias + d, mask=d_exists, other=0.0)[:, None]
    if F.softplus:
        dt, slope = softplus(s)
        return tl.where(mask, dt, 0.0), tl.where(mask, slope, 0.0)
    else:
        return tl.where(mask, s, 0.0), tl.zeros_like(s) + 1


@inline
def load_tile(X, S, b, group, d, d_exists, n, n_exists, place, t_exists, B, sizes, F: tl.constexpr):
    """What enters T steps of (S3): u, dt, its slope, B."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    mask = d_exists[:, None] & t_exists[None, :]
    x = load_rows(X.u, S.u, b, d, place, mask, dtype)
    dt, slope = load_step_size(X, S, b, d, d_exists, place, t_exists, sizes, F)
    return x, dt, slope, load_B(X, S, b, group, n, n_exists, place, t_exists, B, sizes, F)


@inline
def advance(h_r, h_i, a_r, a_i, B, dtx, i: tl.constexpr, F: tl.constexpr):
    """(S3)"""
    h_r, h_i = multiply(a_r, a_i, h_r, h_i, F.is_complex)
    h_r += at(B[0], i, F.constant_B) * dtx
    if F.is_complex:
        h_i += at(B[1], i, F.constant_B) * dtx
    return h_r, h_i


@inline
def parameters_of(X, d, d_exists, n0, sizes, F: tl.constexpr):
    """A block of states: which, which exist, A, and constant B and C or zeros in their place."""
    n, n_exists = states_of(n0, F)
    mask = d_exists[:, None] & n_exists[None, :]
    A_r, A_i = load_A(X.A, d, n, mask, sizes, F)
    zero = tl.zeros_like(A_r)
    B = load_parameter(X.B, d, n, mask, sizes, F) if F.constant_B else (zero, zero)
    C = load_parameter(X.C, d, n, mask, sizes, F) if F.constant_C else (zero, zero)
    return n, n_exists, mask, A_r, A_i, B, C


@inline
def program(i, parts, chunks, sizes):
    """(batch, chunk, group, part of the group) of the i-th unit of work."""
    part = i % parts
    i = i // parts
    group = i % sizes.groups
    i = i // sizes.groups
    return i // chunks, i % chunks, group, part


@inline
def chunk_of(chunks, sizes, F: tl.constexpr):
    """What a program works on that has one chunk of one block of channels: first step, last + 1."""
    b, c, group, block = program(tl.program_id(0), sizes.blocks, chunks, sizes)
    d, d_exists = channels_of(group, block, sizes, F)
    start = c * sizes.chunk
    return b, c, group, d, d_exists, start, tl.minimum(start + sizes.chunk, sizes.length)
