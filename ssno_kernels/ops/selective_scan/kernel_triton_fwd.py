# SPDX-License-Identifier: MIT
"""Forward Triton kernels of `selective_scan`: the scan, and the two that let chunks run at once."""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_math import decay, inline, multiply, sigmoid
from .kernel_triton_steps import (
    advance,
    at,
    checkpoint_pointers,
    chunk_of,
    load_C,
    load_rows,
    load_state,
    load_tile,
    parameters_of,
    row_pointers,
    steps_of,
    store_rows,
    store_state,
    times_of,
    with_step,
)


@inline
def finish(y, x, X, S, b, d, d_exists, place, mask):
    """The skip of (S4), and (S5)."""
    if X.D is not None:
        y += tl.load(X.D + d, mask=d_exists, other=0.0)[:, None] * x
    if X.z is not None:
        gate = load_rows(X.z, S.z, b, d, place, mask, y.dtype)
        y *= gate * sigmoid(gate)
    return y


@inline
def sweep_steps(h_r, h_i, A_r, A_i, dt, x, B, C, F: tl.constexpr):
    """T steps of (S3) and the sum of (S4): the state after them, and y as [BLOCK_D, T]."""
    dts = steps_of(dt, F)
    dtxs = steps_of(dt * x, F)
    y = tl.zeros_like(x)
    for i in tl.static_range(F.steps):
        a_r, a_i = decay(A_r, A_i, dts[i][:, None], F.is_complex)
        h_r, h_i = advance(h_r, h_i, a_r, a_i, B, dtxs[i][:, None], i, F)
        if F.is_complex:
            products = h_r * at(C[0], i, F.constant_C) - h_i * at(C[1], i, F.constant_C)
            y = with_step(y, i, 2 * tl.sum(products, 1), F)
        else:
            y = with_step(y, i, tl.sum(h_r * at(C[0], i, F.constant_C), 1), F)
    return h_r, h_i, y


@inline
def save(checkpoints, i, b, d, n, mask, h_r, h_i, sizes, F: tl.constexpr):
    p = checkpoint_pointers(checkpoints, i, b, d, n, sizes, F)
    tl.store(p, h_r, mask=mask)
    if F.is_complex:
        tl.store(p + sizes.channels.to(tl.int64) * F.states, h_i, mask=mask)


@triton.jit(do_not_specialize=["chunks"])
def selective_scan_fwd_kernel(
    out, out_strides, before, partial, partial_strides, final_state, final_strides, checkpoints,
    X, S, chunks, sizes, F: tl.constexpr,
):  # fmt: skip
    """(S1) to (S5) for one block of channels over one chunk of one sequence.

    `before` has the strides of `out`, and is added to it. `partial` holds y between blocks of
    states, where N exceeds one block.
    """
    dtype: tl.constexpr = X.A.dtype.element_ty
    b, c, group, d, d_exists, start, stop = chunk_of(chunks, sizes, F)
    for n0 in range(0, F.states, F.block_n):
        n, n_exists, mask_h, A_r, A_i, B_constant, C_constant = parameters_of(
            X, d, d_exists, n0, sizes, F
        )
        h_r, h_i = load_state(X.state, S.state, c, b, d, n, mask_h, dtype, F)
        for s in range(start, stop, F.steps):
            if checkpoints is not None:  # noqa: SIM102 (one is known at compile time)
                if (s % sizes.interval == 0) & (s > 0):
                    save(checkpoints, s // sizes.interval - 1, b, d, n, mask_h, h_r, h_i, sizes, F)
            t, place, t_exists = times_of(s, sizes, F)
            mask = d_exists[:, None] & t_exists[None, :]
            x, dt, _, B = load_tile(
                X, S, b, group, d, d_exists, n, n_exists, place, t_exists, B_constant, sizes, F
            )
            C = load_C(X, S, b, group, n, n_exists, place, t_exists, C_constant, sizes, F)
            h_r, h_i, y = sweep_steps(h_r, h_i, A_r, A_i, dt, x, B, C, F)
            if partial is not None:
                p = row_pointers(partial, partial_strides, b, d, (t,))
                y += tl.load(p, mask=mask & (n0 > 0), other=0.0)
                tl.store(p, y, mask=mask & (n0 + F.block_n < F.states))
            y = finish(y, x, X, S, b, d, d_exists, place, mask)
            mask &= n0 + F.block_n >= F.states
            if before is not None:
                y += load_rows(before, out_strides, b, d, place, mask, dtype)
            store_rows(out, out_strides, b, d, place, mask, y)
        if final_state is not None:  # noqa: SIM102
            if stop == sizes.length:
                store_state(final_state, final_strides, b * 0, b, d, n, mask_h, h_r, h_i, F)
        tl.debug_barrier()  # the next block of states reads `partial`, not always thread by thread


@triton.jit(do_not_specialize=["chunks"])
def chunk_end_kernel(ends, decays, ends_strides, X, S, chunks, sizes, F: tl.constexpr):
    """The affine map of one chunk: its last state from zero, and the product of its decays."""
    b, c, group, d, d_exists, start, stop = chunk_of(chunks, sizes, F)
    for n0 in range(0, F.states, F.block_n):
        n, n_exists, mask_h, A_r, A_i, B_constant, _C_constant = parameters_of(
            X, d, d_exists, n0, sizes, F
        )
        h_r = tl.zeros_like(A_r)
        h_i = h_r
        p_r, p_i = h_r + 1, h_r
        total = tl.zeros([F.block_d, F.steps], A_r.dtype)
        for s in range(start, stop, F.steps):
            _, place, t_exists = times_of(s, sizes, F)
            x, dt, _, B = load_tile(
                X, S, b, group, d, d_exists, n, n_exists, place, t_exists, B_constant, sizes, F
            )
            total += dt
            dts = steps_of(dt, F)
            dtxs = steps_of(dt * x, F)
            for i in tl.static_range(F.steps):
                a_r, a_i = decay(A_r, A_i, dts[i][:, None], F.is_complex)
                h_r, h_i = advance(h_r, h_i, a_r, a_i, B, dtxs[i][:, None], i, F)
                if F.is_complex:  # a phase that is summed up first would lose digits
                    p_r, p_i = multiply(a_r, a_i, p_r, p_i, F.is_complex)
        if not F.is_complex:
            p_r, p_i = decay(A_r, A_i, tl.sum(total, 1)[:, None], F.is_complex)
        store_state(ends, ends_strides, c, b, d, n, mask_h, h_r, h_i, F)
        store_state(decays, ends_strides, c, b, d, n, mask_h, p_r, p_i, F)


@triton.jit(do_not_specialize=["count", "chunks", "first", "step"])
def carry_kernel(
    ends, decays, state, state_strides, count, channels, chunks, first, step,
    N: tl.constexpr, IS_COMPLEX: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Replace each chunk's end by the state that enters it, chunk after chunk from `first` on.

    ends and decays are contiguous (chunks, B, D, N[, 2]); count is B D N.
    """
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count
    parts: tl.constexpr = 2 if IS_COMPLEX else 1
    h_r = tl.zeros([BLOCK], ends.dtype.element_ty)
    h_i = h_r
    if state is not None:
        row = i // N
        p = state + row // channels * state_strides[1] + row % channels * state_strides[2]
        p += i % N * state_strides[3]
        h_r = tl.load(p, mask=mask, other=0.0)
        if IS_COMPLEX:
            h_i = tl.load(p + state_strides[4], mask=mask, other=0.0)
    for j in range(chunks):
        offset = ((first + j * step) * count.to(tl.int64) + i) * parts
        e_r = tl.load(ends + offset, mask=mask, other=0.0)
        p_r = tl.load(decays + offset, mask=mask, other=0.0)
        tl.store(ends + offset, h_r, mask=mask)
        if IS_COMPLEX:
            e_i = tl.load(ends + offset + 1, mask=mask, other=0.0)
            p_i = tl.load(decays + offset + 1, mask=mask, other=0.0)
            tl.store(ends + offset + 1, h_i, mask=mask)
            h_r, h_i = multiply(p_r, p_i, h_r, h_i, IS_COMPLEX)
            h_i += e_i
        else:
            h_r *= p_r
        h_r += e_r
