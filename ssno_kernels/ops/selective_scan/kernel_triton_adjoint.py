# SPDX-License-Identifier: MIT
"""The adjoint of T steps of the selective scan, as the backward Triton kernels run it."""

from __future__ import annotations

import triton.language as tl

from .kernel_triton_math import LN2, LOG2E, TURN, decay, inline, multiply_conj, sigmoid
from .kernel_triton_steps import (
    advance,
    at,
    checkpoint_pointers,
    first_time,
    load_rows,
    load_state,
    load_tile,
    steps_of,
    times_of,
    with_step,
)


@inline
def load_v_y(v_out, v_out_strides, X, S, b, d, place, mask, dtype: tl.constexpr):
    """v_y = v_out silu(z), v_out, z"""
    v = load_rows(v_out, v_out_strides, b, d, place, mask, dtype)
    if X.z is not None:
        z = load_rows(X.z, S.z, b, d, place, mask, dtype)
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
        _, place, t_exists = times_of(first + tile * F.steps, sizes, F)
        x, dt, _, B = load_tile(
            X, S, b, group, d, d_exists, n, n_exists, place, t_exists, B_constant, sizes, F
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
        g_r *= a[0]
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
