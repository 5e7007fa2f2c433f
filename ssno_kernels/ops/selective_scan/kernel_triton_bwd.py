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

from .kernel_triton_adjoint import (
    add_C,
    adjoint_tile,
    load_checkpoint,
    load_v_y,
    recompute,
    scratch_pointers,
)
from .kernel_triton_math import decay, inline, multiply_conj, sigmoid
from .kernel_triton_steps import (
    channels_of,
    chunk_of,
    first_time,
    load_C,
    load_rows,
    load_state,
    load_step_size,
    load_tile,
    parameters_of,
    place_of,
    program,
    steps_of,
    store_rows,
    store_state,
    times_of,
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


@triton.jit(do_not_specialize=["chunks"])
def adjoint_chunk_end_kernel(
    ends, decays, ends_strides, v_out, v_out_strides, X, S, chunks, sizes, F: tl.constexpr
):
    """The affine map of one chunk of the adjoint: what it hands on from zero, and its decays."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    b, c, group, d, d_exists, start, stop = chunk_of(chunks, sizes, F)
    tiles = tl.cdiv(stop - start, F.steps)
    for n0 in range(0, F.states, F.block_n):
        n, n_exists, mask_h, A_r, A_i, _B_constant, C_constant = parameters_of(
            X, d, d_exists, n0, sizes, F
        )
        g_r = tl.zeros_like(A_r)
        g_i = g_r
        p_r, p_i = g_r + 1, g_r
        total = tl.zeros([F.block_d, F.steps], dtype)
        for tile in range(0, tiles):
            _, place, t_exists = times_of(start + (tiles - 1 - tile) * F.steps, sizes, F)
            mask = d_exists[:, None] & t_exists[None, :]
            v_y, _, _ = load_v_y(v_out, v_out_strides, X, S, b, d, place, mask, dtype)
            v_ys = steps_of(v_y, F)
            dt, _ = load_step_size(X, S, b, d, d_exists, place, t_exists, sizes, F)
            C = load_C(X, S, b, group, n, n_exists, place, t_exists, C_constant, sizes, F)
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
def store_tile(
    G, GS, v_u_before, sums, steps, v_y, v_out, z, dt, slope, x, s_A, s_B, y, D, b, d, place,
    position, offset, mask, n0, sizes, F: tl.constexpr,
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
        v_u = dt * s_B + D * v_y
        if v_u_before is not None:
            v_u += load_rows(v_u_before, GS.u, b, d, place, mask, v_u.dtype)
        store_rows(G.u, GS.u, b, d, place, mask, v_u)
    if steps is not None:
        p = steps + tl.arange(0, F.block_d)[:, None] * sizes.interval + position[None, :]
        tl.store(p, v_s, mask=mask)
    elif G.delta is not None:
        store_rows(G.delta, GS.delta, b, d, place, mask, v_s)
    if G.z is not None:
        sig = sigmoid(z)
        v_silu = sig * (1 + z * (1 - sig))
        store_rows(G.z, GS.z, b, d, place, mask, v_out * (y + D * x) * v_silu)
    return tl.where(mask, v_s, 0.0), tl.where(mask, v_y * x, 0.0)


@inline
def reduce_factor(
    G, X, S, steps, rows_delta, rows_weight, b, d, d_exists, t0, count, again_delta, again_weight,
    sizes, F: tl.constexpr,
):  # fmt: skip
    """v of the factor x and of its weight from v_s of `count` steps: W^T v_s and v_s x^T."""
    for first in range(0, count, 16):
        i = first + tl.arange(0, 16)
        t = t0 + i
        place = place_of(t, sizes, F)
        t_exists = (i < count) & (t >= 0) & (t < sizes.length)
        tile = steps + tl.arange(0, F.block_d)[:, None] * sizes.interval + i[None, :]
        v_s = tl.load(tile, mask=d_exists[:, None] & t_exists[None, :], other=0.0)
        for r in range(F.rank):
            if G.delta is not None:
                w = tl.load(X.weight + r * sizes.channels + d, mask=d_exists, other=0.0)
                row = rows_delta + r * sizes.length.to(tl.int64) + t
                old = tl.load(row, mask=t_exists & again_delta, other=0.0)
                tl.store(row, old + tl.sum(v_s * w[:, None], 0), mask=t_exists)
            if G.weight is not None:
                r_ = tl.zeros([1], tl.int64) + r
                x = load_rows(X.delta, S.delta, b, r_, place, t_exists[None, :], v_s.dtype)
                column = rows_weight + r * sizes.channels + d
                old = tl.load(column, mask=d_exists & (again_weight | (first > 0)), other=0.0)
                tl.store(column, old + tl.sum(v_s * x, 1), mask=d_exists)
        tl.debug_barrier()  # what one thread adds to, another may have written


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
    G, GS, v_u_before, states, sums, steps, rows_B, rows_C, rows_delta, v_out, v_out_strides,
    v_state, v_state_strides, checkpoints, X, S, b, c, chunks, group, d, d_exists, n0, again,
    sizes, F: tl.constexpr,
):  # fmt: skip
    """The adjoint of one block of channels and of states over one chunk."""
    dtype: tl.constexpr = X.A.dtype.element_ty
    start = c * sizes.chunk
    stop = tl.minimum(start + sizes.chunk, sizes.length)
    bc = b.to(tl.int64) * chunks + c
    last = n0 + F.block_n >= F.states
    n, n_exists, mask_h, A_r, A_i, B_constant, C_constant = parameters_of(
        X, d, d_exists, n0, sizes, F
    )
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
            t, place, t_exists = times_of(s, sizes, F)
            mask = d_exists[:, None] & t_exists[None, :]
            x, dt, slope, B = load_tile(
                X, S, b, group, d, d_exists, n, n_exists, place, t_exists, B_constant, sizes, F
            )
            C = load_C(X, S, b, group, n, n_exists, place, t_exists, C_constant, sizes, F)
            v_y, v, z = load_v_y(v_out, v_out_strides, X, S, b, d, place, mask, dtype)
            g_r, g_i, totals, s_A, s_B, y = adjoint_tile(
                g_r, g_i, totals, h_r, h_i, A_r, A_i, B, C, dt, x, v_y, rows_B, rows_C, s, n,
                n_exists, again, sizes, G, F,
            )  # fmt: skip
            v_s, v_D = store_tile(
                G, GS, v_u_before, sums, steps, v_y, v, z, dt, slope, x, s_A, s_B, y, D, b, d,
                place, t - base, first - start, mask, n0, sizes, F,
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


@triton.jit(do_not_specialize=["chunks", "units", "parts"])
def selective_scan_bwd_kernel(
    G, GS, v_u_before, scratch, scratch_sizes, v_out, v_out_strides, v_state, v_state_strides,
    checkpoints, X, S, chunks, sizes, units, parts, F: tl.constexpr,
):  # fmt: skip
    """A program takes every `programs`-th unit: a chunk of a sequence, every `parts`-th block.

    v_state enters the chunks from behind: v_final_state, or one for each chunk. v_u_before has the
    strides of G.u, and is added to it.
    """
    planes: tl.constexpr = 2 if F.is_complex else 1
    i = tl.program_id(0).to(tl.int64)
    states = scratch.states + i * scratch_sizes[0]
    sums = None if scratch.sums is None else scratch.sums + i * scratch_sizes[1]
    steps = None if scratch.steps is None else scratch.steps + i * scratch_sizes[2]
    # one flat loop over units and blocks: of two, the inner one's constants would fill registers
    blocks = tl.cdiv(sizes.blocks, parts)
    for j in range(0, tl.cdiv(units - tl.program_id(0), tl.num_programs(0)) * blocks):
        unit = tl.program_id(0) + j // blocks * tl.num_programs(0)
        b, c, group, part = program(unit, parts, chunks, sizes)
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
        d, d_exists = channels_of(group, part + j % blocks * parts, sizes, F)
        for n0 in range(0, F.states, F.block_n):
            adjoint_block(
                G, GS, v_u_before, states, sums, steps, rows_B, rows_C, rows_delta, v_out,
                v_out_strides, v_state, v_state_strides, checkpoints, X, S, b, c, chunks, group, d,
                d_exists, n0, j % blocks > 0, sizes, F,
            )  # fmt: skip
            tl.debug_barrier()
