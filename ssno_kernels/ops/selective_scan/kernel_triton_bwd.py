# SPDX-License-Identifier: MIT
"""Backward Triton kernels of `selective_scan`: (S6) to (S9), and the adjoint map of a chunk.

The adjoint sweeps a chunk from its last step to its first, one interval between checkpoints after
the other. In each, the states are recomputed forward from the checkpoint and those that enter
every T-th step are kept in scratch of the program's own; from there the T states of a tile are
recomputed into registers when the adjoint reaches it. The recurrence is never inverted.

Sums over channels, sequences and chunks leave as one program's partial sums, taken in an order that
is always the same. A program works on its channel blocks one after the other and adds to what it
has written itself, so that v_B and v_C need few partials.
"""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from .kernel_triton_steps import (
    LN2,
    LOG2E,
    TURN,
    advance,
    at,
    channels_of,
    checkpoint_pointers,
    decay,
    decay_again,
    first_time,
    inline,
    load_A,
    load_parameter,
    load_projection,
    load_rows,
    load_state,
    load_step_size,
    load_tile,
    multiply_conj,
    program,
    sigmoid,
    states_of,
    steps_of,
    store_rows,
    store_state,
    times_of,
    with_step,
)


class Gradients(NamedTuple):
    """Where to write; None for what is not asked for.

    u, delta, z and state are final. The others are partial sums: constant B and C, A and weight
    (B chunks, [2,] D, N) or (B chunks, R, D); D and bias (B chunks, D); variable B and C
    (B, G, parts, L, [2,] N); a factor of delta (B, G, parts, R, L).
    """

    u: Tensor | None
    delta: Tensor | None
    A: Tensor | None
    B: Tensor | None
    C: Tensor | None
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    weight: Tensor | None
    state: Tensor | None


class GradientStrides(NamedTuple):
    u: tuple
    delta: tuple
    z: tuple
    state: tuple


class Scratch(NamedTuple):
    """A program's own memory, its index first."""

    states: Tensor  # that enter the tiles of an interval: (tiles, [2,] BLOCK_D, BLOCK_N)
    sums: Tensor | None  # between blocks of states: (3, BLOCK_D, chunk)
    steps: Tensor | None  # v_s of an interval, where delta is a factor: (BLOCK_D, interval)


@inline
def load_v_y(v_out, v_out_strides, X, S, b, d, t, mask, dtype: tl.constexpr):
    """v_y = v_out silu(z), v_out, z"""
    v = load_rows(v_out, v_out_strides, b, d, t, mask, dtype)
    if X.z is not None:
        z = load_rows(X.z, S.z, b, d, t, mask, dtype)
        return v * z * sigmoid(z), v, z
    else:
        return v, v, v


@inline
def add_C(g_r, g_i, C, v_y, i: tl.constexpr, F: tl.constexpr):
    """The first term of (S6)."""
    if F.is_complex:
        return (
            g_r + at(C[0], i, F.constant_C) * (2 * v_y),
            g_i - at(C[1], i, F.constant_C) * (2 * v_y),
        )
    else:
        return g_r + at(C[0], i, F.constant_C) * v_y, g_i


@triton.jit
def adjoint_chunk_end_kernel(
    ends, decays, ends_strides, v_out, v_out_strides, X, S, sizes, F: tl.constexpr
):
    """The affine map of one chunk of the adjoint: what it hands on from zero, and its decays."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    b, c, group, block = program(tl.program_id(0), sizes.blocks, sizes)
    d, d_exists = channels_of(group, block, sizes, F)
    tiles = tl.cdiv(tl.minimum(sizes.chunk, sizes.length - c * sizes.chunk), F.steps)
    for n0 in range(0, F.states, F.block_n):
        n, n_exists = states_of(n0, F)
        mask_h = d_exists[:, None] & n_exists[None, :]
        A_r, A_i = load_A(X.A, d, n, mask_h, sizes, F)
        C_constant = load_parameter(X.C, d, n, mask_h, sizes, F) if F.constant_C else None
        g_r = tl.zeros_like(A_r)
        g_i = g_r
        p_r, p_i = g_r + 1, g_r
        total = tl.zeros([F.block_d, F.steps], dtype)
        for tile in range(0, tiles):
            t, t_exists = times_of(c * sizes.chunk + (tiles - 1 - tile) * F.steps, sizes, F)
            mask = d_exists[:, None] & t_exists[None, :]
            v_y, _, _ = load_v_y(v_out, v_out_strides, X, S, b, d, t, mask, dtype)
            v_ys = steps_of(v_y, F)
            dt, _ = load_step_size(X, S, b, d, d_exists, t, t_exists, sizes, F)
            g = group // sizes.share_C
            C = load_projection(X.C, S.C, b, g, n, n_exists, t, t_exists, C_constant, dtype, F)
            total += dt
            dts = steps_of(dt, F)
            for i in tl.static_range(F.steps - 1, -1, -1):
                g_r, g_i = add_C(g_r, g_i, C, v_ys[i][:, None], i, F)
                a_r, a_i = decay(A_r, A_i, dts[i][:, None], F.is_complex)
                g_r, g_i = multiply_conj(a_r, a_i, g_r, g_i, F.is_complex)
                if F.is_complex:
                    p_r, p_i = multiply_conj(a_r, a_i, p_r, p_i, F.is_complex)
        if not F.is_complex:
            p_r, p_i = decay(A_r, A_i, tl.sum(total, 1)[:, None], F.is_complex)
        store_state(ends, ends_strides, c, b, d, n, mask_h, g_r, g_i, F)
        store_state(decays, ends_strides, c, b, d, n, mask_h, p_r, p_i, F)


@inline
def scratch_pointers(scratch, index, F: tl.constexpr):
    """State tile `index` of a program's scratch; its imaginary part is one tile further."""
    parts: tl.constexpr = 2 if F.is_complex else 1
    tile = tl.arange(0, F.block_d)[:, None] * F.block_n + tl.arange(0, F.block_n)[None, :]
    return scratch + index * (parts * F.block_d * F.block_n) + tile


@inline
def store_scratch(scratch, index, h_r, h_i, F: tl.constexpr):
    p = scratch_pointers(scratch, index, F)
    tl.store(p, h_r)
    if F.is_complex:
        tl.store(p + F.block_d * F.block_n, h_i)


@inline
def load_checkpoint(checkpoints, X, S, b, d, n, mask, interval, sizes, F: tl.constexpr):
    """The state that enters an interval: saved by the forward sweep, the first one given."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    h_r, h_i = load_state(X.state, S.state, b * 0, b, d, n, mask & (interval == 0), dtype, F)
    saved = mask & (interval > 0)
    p = checkpoint_pointers(checkpoints, interval - 1, b, d, n, sizes, F)
    h_r += tl.load(p, mask=saved, other=0.0)
    if F.is_complex:
        h_i += tl.load(p + sizes.channels.to(tl.int64) * F.states, mask=saved, other=0.0)
    return h_r, h_i


@inline
def recompute(
    scratch, h_r, h_i, A_r, A_i, B_constant, first, tiles, b, group, d, d_exists, n, n_exists,
    X, S, sizes, F: tl.constexpr,
):  # fmt: skip
    """Sweep an interval from its checkpoint and keep the state that enters each of its tiles."""
    for tile in range(0, tiles - 1):
        store_scratch(scratch, tile, h_r, h_i, F)
        t, t_exists = times_of(first + tile * F.steps, sizes, F)
        x, dt, _, B = load_tile(
            X, S, b, group, d, d_exists, n, n_exists, t, t_exists, B_constant, sizes, F
        )
        dts = steps_of(dt, F)
        dtxs = steps_of(dt * x, F)
        for i in tl.static_range(F.steps):
            a_r, a_i = decay(A_r, A_i, dts[i][:, None], F.is_complex)
            h_r, h_i = advance(h_r, h_i, a_r, a_i, B, dtxs[i][:, None], i, F)
    store_scratch(scratch, tiles - 1, h_r, h_i, F)


@inline
def add_rows(rows, t, n, mask, again, v_r, v_i, F: tl.constexpr):
    """Add [BLOCK_N] to time t of partial sums (L, [2,] N), or write it the first time."""
    parts: tl.constexpr = 2 if F.is_complex else 1
    p = rows + t.to(tl.int64) * (parts * F.states) + n
    tl.store(p, v_r + tl.load(p, mask=mask & again, other=0.0), mask=mask)
    if F.is_complex:
        p += F.states
        tl.store(p, v_i + tl.load(p, mask=mask & again, other=0.0), mask=mask)


@inline
def tile_states(h_r, h_i, A_r, A_i, B, dts, dtxs, F: tl.constexpr):
    """The state that enters a tile, those after its steps, and the decays, in sweep order."""
    hs_r = (h_r,)
    hs_i = (h_i,)
    as_r = ()
    as_i = ()
    for i in tl.static_range(F.steps):
        a_r, a_i = decay(A_r, A_i, dts[i][:, None], F.is_complex)
        h_r, h_i = advance(h_r, h_i, a_r, a_i, B, dtxs[i][:, None], i, F)
        hs_r = hs_r + (h_r,)  # noqa: RUF005
        hs_i = hs_i + (h_i,)  # noqa: RUF005
        as_r = as_r + (a_r,)  # noqa: RUF005
        as_i = as_i + (a_i,)  # noqa: RUF005
    return hs_r, hs_i, as_r, as_i


@inline
def read_out(h_r, h_i, C, i: tl.constexpr, F: tl.constexpr):
    """<C, h> of (S4)"""
    if F.is_complex:
        return 2 * tl.sum(h_r * at(C[0], i, F.constant_C) - h_i * at(C[1], i, F.constant_C), 1)
    else:
        return tl.sum(h_r * at(C[0], i, F.constant_C), 1)


@inline
def adjoint_step(
    g_r, g_i, sums, h, entering, a, A_r, A_i, B, C, dt, dtx, v_y, rows_B, rows_C, t, t_exists, n,
    n_exists, again, i: tl.constexpr, G, F: tl.constexpr,
):  # fmt: skip
    """(S6) to (S8) at one step, and the sums over states of (S9).

    sums holds v_A, constant v_B, v_C as pairs so far; h is the state after the step.
    """
    v_A_r, v_A_i, v_B_r, v_B_i, v_C_r, v_C_i = sums
    g_r, g_i = add_C(g_r, g_i, C, v_y, i, F)
    mask = n_exists & t_exists
    if G.C is not None:
        scale = 2 * v_y if F.is_complex else v_y
        if F.constant_C:
            v_C_r += scale * h[0]
            v_C_i -= scale * h[1]
        else:
            v_i = -tl.sum(scale * h[1], 0) if F.is_complex else 0
            add_rows(rows_C, t, n, mask, again, tl.sum(scale * h[0], 0), v_i, F)
    if G.B is not None:
        if F.constant_B:
            v_B_r += dtx * g_r
            v_B_i += dtx * g_i
        else:
            v_i = tl.sum(dtx * g_i, 0) if F.is_complex else 0
            add_rows(rows_B, t, n, mask, again, tl.sum(dtx * g_r, 0), v_i, F)
    if F.is_complex:
        s_B = tl.sum(at(B[0], i, F.constant_B) * g_r + at(B[1], i, F.constant_B) * g_i, 1)
        g_r, g_i = multiply_conj(a[0], a[1], g_r, g_i, F.is_complex)
        w_r, w_i = multiply_conj(entering[0], entering[1], g_r, g_i, F.is_complex)
        s_A = tl.sum(A_r * w_r + A_i * w_i * (TURN * LOG2E), 1)
        v_A_i += dt * w_i
    else:
        s_B = tl.sum(at(B[0], i, F.constant_B) * g_r, 1)
        g_r *= decay_again(A_r, dt, a[0])
        w_r = g_r * entering[0]
        s_A = tl.sum(A_r * w_r, 1)
    v_A_r += dt * w_r
    return g_r, g_i, s_A * LN2, s_B, (v_A_r, v_A_i, v_B_r, v_B_i, v_C_r, v_C_i)


@inline
def adjoint_tile(
    g_r, g_i, sums, h_r, h_i, A_r, A_i, B, C, dt, x, v_y, rows_B, rows_C, s, n, n_exists, again,
    sizes, G, F: tl.constexpr,
):  # fmt: skip
    """T steps of the adjoint: g before them, the sums, and the tiles of (S9) and of y."""
    dts = steps_of(dt, F)
    dtxs = steps_of(dt * x, F)
    v_ys = steps_of(v_y, F)
    hs_r, hs_i, as_r, as_i = tile_states(h_r, h_i, A_r, A_i, B, dts, dtxs, F)
    s_A = tl.zeros_like(x)
    s_B = tl.zeros_like(x)
    y = tl.zeros_like(x)
    for i in tl.static_range(F.steps - 1, -1, -1):
        t = first_time(s + i, 1, sizes, F)
        h = (hs_r[i + 1], hs_i[i + 1])
        entering = (hs_r[i], hs_i[i])
        a = (as_r[i], as_i[i])
        if G.z is not None:
            y = with_step(y, i, read_out(h[0], h[1], C, i, F), F)
        g_r, g_i, s_A_i, s_B_i, sums = adjoint_step(
            g_r, g_i, sums, h, entering, a, A_r, A_i, B, C, dts[i][:, None], dtxs[i][:, None],
            v_ys[i][:, None], rows_B, rows_C, t, (t >= 0) & (t < sizes.length), n, n_exists,
            again, i, G, F,
        )  # fmt: skip
        s_A = with_step(s_A, i, s_A_i, F)
        s_B = with_step(s_B, i, s_B_i, F)
    return g_r, g_i, sums, s_A, s_B, y


@inline
def store_tile(
    G, GS, sums, steps, v_y, v_out, z, dt, slope, x, s_A, s_B, y, D, b, d, t, position, offset,
    mask, n0, sizes, F: tl.constexpr,
):  # fmt: skip
    """(S9) from its sums over states, and v_z; v_s and v_y u, which D and bias sum."""
    if sums is not None:
        plane = F.block_d * sizes.chunk
        p = sums + tl.arange(0, F.block_d)[:, None] * sizes.chunk + (position + offset)[None, :]
        earlier = mask & (n0 > 0)
        s_A += tl.load(p, mask=earlier, other=0.0)
        s_B += tl.load(p + plane, mask=earlier, other=0.0)
        y += tl.load(p + 2 * plane, mask=earlier, other=0.0)
        tl.store(p, s_A, mask=mask)
        tl.store(p + plane, s_B, mask=mask)
        tl.store(p + 2 * plane, y, mask=mask)
        mask &= n0 + F.block_n >= F.states
    v_s = (s_A + x * s_B) * slope
    if G.u is not None:
        store_rows(G.u, GS.u, b, d, t, mask, dt * s_B + D * v_y)
    if steps is not None:
        p = steps + tl.arange(0, F.block_d)[:, None] * sizes.interval + position[None, :]
        tl.store(p, v_s, mask=mask)
    elif G.delta is not None:
        store_rows(G.delta, GS.delta, b, d, t, mask, v_s)
    if G.z is not None:
        sig = sigmoid(z)
        v_silu = sig * (1 + z * (1 - sig))
        store_rows(G.z, GS.z, b, d, t, mask, v_out * (y + D * x) * v_silu)
    return tl.where(mask, v_s, 0.0), tl.where(mask, v_y * x, 0.0)


@inline
def reduce_factor(
    G, X, S, steps, rows_delta, rows_weight, b, d, d_exists, t0, count, again_delta, again_weight,
    sizes, F: tl.constexpr,
):  # fmt: skip
    """v of the factor x and of its weight from v_s of `count` steps: W^T v_s and v_s x^T."""
    for first in range(0, count, 32):
        i = first + tl.arange(0, 32)
        t = t0 + i
        t_exists = (i < count) & (t >= 0) & (t < sizes.length)
        p = steps + tl.arange(0, F.block_d)[:, None] * sizes.interval + i[None, :]
        v_s = tl.load(p, mask=d_exists[:, None] & t_exists[None, :], other=0.0)
        for r in range(F.rank):
            if G.delta is not None:
                w = tl.load(X.weight + r * sizes.channels + d, mask=d_exists, other=0.0)
                p = rows_delta + r * sizes.length.to(tl.int64) + t
                old = tl.load(p, mask=t_exists & again_delta, other=0.0)
                tl.store(p, old + tl.sum(v_s * w[:, None], 0), mask=t_exists)
            if G.weight is not None:
                row = tl.zeros([1], tl.int64) + r
                x = load_rows(X.delta, S.delta, b, row, t, t_exists[None, :], v_s.dtype)
                p = rows_weight + r * sizes.channels + d
                old = tl.load(p, mask=d_exists & (again_weight | (first > 0)), other=0.0)
                tl.store(p, old + tl.sum(v_s * x, 1), mask=d_exists)


@inline
def store_parameter(pointer, c, d, n, mask, v_r, v_i, sizes, F: tl.constexpr):
    """Partial sum c of v_A, or of a constant v_B or v_C, into (B chunks, [2,] D, N)."""
    parts: tl.constexpr = 2 if F.is_complex else 1
    plane = sizes.channels.to(tl.int64) * F.states
    p = pointer + c * parts * plane + d[:, None] * F.states + n[None, :]
    tl.store(p, v_r, mask=mask)
    if F.is_complex:
        tl.store(p + plane, v_i, mask=mask)


@inline
def adjoint_block(
    G, GS, states, sums, steps, rows_B, rows_C, rows_delta, v_out, v_out_strides, v_state,
    v_state_strides, checkpoints, X, S, b, c, group, d, d_exists, n0, again, sizes,
    F: tl.constexpr,
):  # fmt: skip
    """The adjoint of one block of channels and of states over one chunk."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    start = c * sizes.chunk
    stop = tl.minimum(start + sizes.chunk, sizes.length)
    bc = b.to(tl.int64) * sizes.chunks + c
    last = n0 + F.block_n >= F.states
    n, n_exists = states_of(n0, F)
    mask_h = d_exists[:, None] & n_exists[None, :]
    A_r, A_i = load_A(X.A, d, n, mask_h, sizes, F)
    B_constant = load_parameter(X.B, d, n, mask_h, sizes, F) if F.constant_B else None
    C_constant = load_parameter(X.C, d, n, mask_h, sizes, F) if F.constant_C else None
    D = tl.zeros([F.block_d, 1], dtype)
    if X.D is not None:
        D = tl.load(X.D + d, mask=d_exists, other=0.0)[:, None]
    g_r, g_i = load_state(v_state, v_state_strides, c, b, d, n, mask_h, dtype, F)
    zero = tl.zeros_like(A_r)
    totals = (zero, zero, zero, zero, zero, zero)
    total_s = tl.zeros([F.block_d, F.steps], dtype)
    total_D = tl.zeros([F.block_d, F.steps], dtype)
    intervals = tl.cdiv(stop - start, sizes.interval)
    for j in range(0, intervals):
        first = start + (intervals - 1 - j) * sizes.interval
        tiles = tl.cdiv(tl.minimum(sizes.interval, stop - first), F.steps)
        interval = first // sizes.interval
        h_r, h_i = load_checkpoint(checkpoints, X, S, b, d, n, mask_h, interval, sizes, F)
        recompute(
            states, h_r, h_i, A_r, A_i, B_constant, first, tiles, b, group, d, d_exists, n,
            n_exists, X, S, sizes, F,
        )  # fmt: skip
        tl.debug_barrier()
        base = first_time(first, tiles * F.steps, sizes, F)
        for i in range(0, tiles):
            tile = tiles - 1 - i
            p = scratch_pointers(states, tile, F)
            h_r = tl.load(p)
            h_i = tl.load(p + F.block_d * F.block_n) if F.is_complex else h_r
            s = first + tile * F.steps
            t, t_exists = times_of(s, sizes, F)
            mask = d_exists[:, None] & t_exists[None, :]
            x, dt, slope, B = load_tile(
                X, S, b, group, d, d_exists, n, n_exists, t, t_exists, B_constant, sizes, F
            )
            g = group // sizes.share_C
            C = load_projection(X.C, S.C, b, g, n, n_exists, t, t_exists, C_constant, dtype, F)
            v_y, v, z = load_v_y(v_out, v_out_strides, X, S, b, d, t, mask, dtype)
            g_r, g_i, totals, s_A, s_B, y = adjoint_tile(
                g_r, g_i, totals, h_r, h_i, A_r, A_i, B, C, dt, x, v_y, rows_B, rows_C, s, n,
                n_exists, again, sizes, G, F,
            )  # fmt: skip
            v_s, v_D = store_tile(
                G, GS, sums, steps, v_y, v, z, dt, slope, x, s_A, s_B, y, D, b, d, t, t - base,
                first - start, mask, n0, sizes, F,
            )  # fmt: skip
            total_s += v_s
            total_D += v_D
        tl.debug_barrier()
        if steps is not None:
            if last:
                rows_weight = G.weight
                if G.weight is not None:
                    rows_weight += bc * F.rank * sizes.channels
                reduce_factor(
                    G, X, S, steps, rows_delta, rows_weight, b, d, d_exists, base,
                    tiles * F.steps, again, j > 0, sizes, F,
                )  # fmt: skip
            tl.debug_barrier()
    if G.A is not None:
        store_parameter(G.A, bc, d, n, mask_h, totals[0], totals[1], sizes, F)
    if G.B is not None and F.constant_B:
        store_parameter(G.B, bc, d, n, mask_h, totals[2], totals[3], sizes, F)
    if G.C is not None and F.constant_C:
        store_parameter(G.C, bc, d, n, mask_h, totals[4], totals[5], sizes, F)
    if G.state is not None:
        store_state(G.state, GS.state, b * 0, b, d, n, mask_h & (c == 0), g_r, g_i, F)
    if G.D is not None:
        tl.store(G.D + bc * sizes.channels + d, tl.sum(total_D, 1), mask=d_exists & last)
    if G.bias is not None:
        tl.store(G.bias + bc * sizes.channels + d, tl.sum(total_s, 1), mask=d_exists & last)


@triton.jit(do_not_specialize=["units", "parts"])
def selective_scan_bwd_kernel(
    G, GS, scratch, scratch_sizes, v_out, v_out_strides, v_state, v_state_strides, checkpoints,
    X, S, sizes, units, parts, F: tl.constexpr,
):  # fmt: skip
    """A program takes every `programs`-th unit: a chunk of a sequence, every `parts`-th block.

    v_state enters the chunks from behind: v_final_state, or one for each chunk.
    """
    planes: tl.constexpr = 2 if F.is_complex else 1
    i = tl.program_id(0).to(tl.int64)
    states = scratch.states + i * scratch_sizes[0]
    sums = None if scratch.sums is None else scratch.sums + i * scratch_sizes[1]
    steps = None if scratch.steps is None else scratch.steps + i * scratch_sizes[2]
    for unit in range(tl.program_id(0), units, tl.num_programs(0)):
        b, c, group, part = program(unit, parts, sizes)
        row = (b.to(tl.int64) * sizes.groups + group) * parts + part
        size = sizes.length.to(tl.int64) * (planes * F.states)
        rows_B = G.B
        rows_C = G.C
        rows_delta = G.delta
        if G.B is not None and not F.constant_B:
            rows_B += row * size
        if G.C is not None and not F.constant_C:
            rows_C += row * size
        if G.delta is not None and F.rank > 0:
            rows_delta += row * (sizes.length.to(tl.int64) * F.rank)
        for block in range(part, sizes.blocks, parts):
            d, d_exists = channels_of(group, block, sizes, F)
            for n0 in range(0, F.states, F.block_n):
                adjoint_block(
                    G, GS, states, sums, steps, rows_B, rows_C, rows_delta, v_out, v_out_strides,
                    v_state, v_state_strides, checkpoints, X, S, b, c, group, d, d_exists, n0,
                    block > part, sizes, F,
                )  # fmt: skip
                tl.debug_barrier()
