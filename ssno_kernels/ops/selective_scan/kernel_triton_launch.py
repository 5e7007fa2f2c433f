# SPDX-License-Identifier: MIT
"""Launches the Triton kernels of the selective scan along one traversal of a grid.

A program is one warp that sweeps one block of channels. Where batch and channels do not fill the
device, the sequence is cut into chunks: one kernel finds the affine map of each chunk, one
composes the maps to the state that enters each chunk, and the scan then runs on all chunks at once.
What a kernel is compiled for follows from dtypes, D, N, R, the number of axes and the kinds of
arguments. Of B and L it matters only whether rows start on 16 elements and, without an initial
state, whether L is cut.

Activations are (B, ., *grid), views whose last axis is swept fastest: a traversal is a permutation
of strides, and a sequence a grid of one axis.

Memory beyond the results, relative to u in the state's dtype: states carried between chunks, at
most 1 / 2 (a chunk is at least a checkpoint interval, 4 N steps); partial v_B and v_C, 1 / 2 or one
copy of them; partial sums of v_A, constant v_B and v_C, a (D, N) each per sequence and chunk; y
between blocks of states where N > 16, 1; and the scratch of 16 programs a multiprocessor, 33 MiB
on a device of 132 for N = 16.

Counted in the code for sm_90, float32, N = 16, all extras (u, delta, z, B, C; D, bias, softplus),
instructions per (channel, step, state): forward 10.0, 1.1 of them exp2; backward 43.4, 2.2 of
them exp2 and 4.5 shuffles. Bytes per (channel, step): forward 16, backward 28, and B and C.
"""

from __future__ import annotations

import triton
from torch import Tensor

from . import kernel_triton_plan as plan
from .kernel_triton_arguments import Flags, Inputs, Sizes, Strides
from .kernel_triton_bwd import (
    Gradients,
    GradientStrides,
    Scratch,
    adjoint_chunk_end_kernel,
    selective_scan_bwd_kernel,
)
from .kernel_triton_fwd import carry_kernel, chunk_end_kernel, selective_scan_fwd_kernel
from .kernel_triton_plan import row_strides, state_strides


def forward(
    X: Inputs,
    softplus: bool,
    reverse: bool,
    out: Tensor,
    *,
    before: Tensor | None = None,
    final: Tensor | None = None,
    checkpoints: Tensor | None = None,
    interval: int = 0,
    scans: int = 1,
) -> None:
    """Write out, final and checkpoints; X holds canonical arguments, u and out (B, D, *grid).

    `before`, of the strides of out, is added to it. checkpoints is one of `scans` that lie side by
    side in each entry of the batch.
    """
    if X.u.shape[0] == 0:
        return
    X, (rows, before) = plan.fold(X, [out, before])
    assert rows is not None
    F = plan.flags(X, softplus, reverse, plan.FORWARD_STEPS)
    S, chunks = plan.sizes(X, F, interval or 64, scans, enough=2)
    X, strides = plan.for_kernel(X, F)
    batch, channels = X.u.shape[:2]
    partial = None
    if F.states > F.block_n:
        partial = X.A.new_empty(batch, channels, S.length)
    programs = (batch * chunks * S.groups * S.blocks,)
    if chunks > 1:
        ends, decays = _chunk_ends(X, chunks, F)
        ends_strides = state_strides(ends, F.is_complex)
        chunk_end_kernel[programs](
            ends, decays, ends_strides, X, strides, chunks, S, F.constants(), num_warps=1
        )
        _carry(ends, decays, X.state, F, 0, 1)
        X, strides = X._replace(state=ends), strides._replace(state=ends_strides)
    selective_scan_fwd_kernel[programs](
        rows, rows.stride(), before, partial, (0, 0, 0) if partial is None else partial.stride(),
        final, state_strides(final, F.is_complex), checkpoints, X, strides, chunks, S,
        F.constants(), num_warps=1,
    )  # fmt: skip


def backward(
    X: Inputs,
    softplus: bool,
    reverse: bool,
    v_out: Tensor,
    v_final_state: Tensor | None,
    results: Gradients,
    checkpoints: Tensor,
    interval: int,
    *,
    v_u_before: Tensor | None = None,
    scans: int = 1,
) -> None:
    """Write the results, cotangents of X in its shapes, that are not None.

    `v_u_before`, of the strides of results.u, is added to that. `scans`: see `forward`.
    """
    grid = X.u.shape[2:]
    swept = [results.u, v_u_before, None if X.weight is not None else results.delta, results.z]
    X, (v_rows, v_u, v_u_before, v_delta, v_z) = plan.fold(X, [v_out, *swept])
    assert v_rows is not None
    steps = plan.backward_steps(X.u.device, X.weight is not None)
    F = plan.flags(X, softplus, reverse, steps)
    S, chunks = plan.sizes(X, F, interval, scans, enough=8)
    # partial sums of v_B and v_C: at most half of u altogether, but at least one
    parts = max(1, min(S.channels // (4 * S.groups * X.A[0].numel()), S.blocks))
    batch = X.u.shape[0]
    G = results._replace(u=v_u, delta=v_delta, z=v_z)
    G = G._replace(**_partials(results, X.A, batch, parts, chunks, F, S))
    if batch > 0 and any(v is not None for v in G):
        X, strides = plan.for_kernel(X, F)
        _adjoint(G, v_u_before, v_rows, v_final_state, checkpoints, X, strides, parts, chunks, F, S)
    _reduce(results, G, grid, F, S)


def _chunk_ends(X: Inputs, chunks: int, F: Flags) -> tuple[Tensor, Tensor]:
    """Room for the affine maps of chunks: (chunks, B, D, N[, 2]) each."""
    imaginary = (2,) if F.is_complex else ()
    shape = (chunks, *X.u.shape[:2], F.states, *imaginary)
    return X.A.new_empty(shape), X.A.new_empty(shape)


def _carry(
    ends: Tensor, decays: Tensor, state: Tensor | None, F: Flags, first: int, step: int
) -> None:
    """Put the states that enter the chunks in the place of `ends`."""
    count = ends[0].numel() // (1 + F.is_complex)
    carry_kernel[(triton.cdiv(count, 128),)](
        ends, decays, state, state_strides(state, F.is_complex), count, ends.shape[2],
        ends.shape[0], first, step, F.states, F.is_complex, 128, num_warps=4,
    )  # fmt: skip


def _adjoint(
    G: Gradients, v_u_before: Tensor | None, v_out: Tensor, v_final_state: Tensor | None,
    checkpoints: Tensor, X: Inputs, strides: Strides, parts: int, chunks: int, F: Flags, S: Sizes,
) -> None:  # fmt: skip
    batch = v_out.shape[0]
    carry, carry_strides = v_final_state, state_strides(v_final_state, F.is_complex)
    if chunks > 1:
        carry, decays = _chunk_ends(X, chunks, F)
        carry_strides = state_strides(carry, F.is_complex)
        adjoint_chunk_end_kernel[(batch * chunks * S.groups * S.blocks,)](
            carry, decays, carry_strides, v_out, v_out.stride(), X, strides, chunks, S,
            F.constants(), num_warps=1,
        )  # fmt: skip
        _carry(carry, decays, v_final_state, F, chunks - 1, -1)
    units = batch * chunks * S.groups * parts
    programs = min(units, 16 * plan.processors(v_out.device))
    scratch, scratch_sizes = _scratch(X.A, programs, F, S)
    gradient_strides = GradientStrides(
        row_strides(G.u, F),
        row_strides(None if F.rank else G.delta, F),
        row_strides(G.z, F),
        state_strides(G.state, F.is_complex),
    )
    selective_scan_bwd_kernel[(programs,)](
        G, gradient_strides, v_u_before, scratch, scratch_sizes, v_out, v_out.stride(), carry,
        carry_strides, checkpoints, X, strides, chunks, S, units, parts, F.constants(),
        num_warps=1,
    )  # fmt: skip


def _scratch(A: Tensor, programs: int, F: Flags, S: Sizes) -> tuple[Scratch, tuple[int, ...]]:
    """Memory of the programs' own, and how much each has."""
    tiles = triton.cdiv(min(S.interval, S.length), F.steps)
    sizes = (
        tiles * (1 + F.is_complex) * F.block_d * F.block_n,
        3 * F.block_d * S.chunk if F.states > F.block_n else 0,
        F.block_d * S.interval if F.rank else 0,
    )
    states = A.new_empty(programs * sizes[0])
    others = (A.new_empty(programs * size) if size else None for size in sizes[1:])
    return Scratch(states, *others), sizes


def _partials(
    results: Gradients, A: Tensor, batch: int, parts: int, chunks: int, F: Flags, S: Sizes
) -> dict[str, Tensor]:
    """Room for the partial sums that `Gradients` tells of, of the results that are wanted."""
    planes = (2,) if F.is_complex else ()
    parameter = (batch * chunks, *planes, S.channels, F.states)
    rows = (batch, S.groups, parts)
    projection = (*rows, S.length, *planes, F.states)
    shapes = {
        "A": parameter,
        "B": parameter if F.constant_B else projection,
        "C": parameter if F.constant_C else projection,
        "D": (batch * chunks, S.channels),
        "bias": (batch * chunks, S.channels),
        "weight": (batch * chunks, F.rank, S.channels),
    }
    if F.rank:
        shapes["delta"] = (*rows, F.rank, S.length)
    wanted = {name for name, v in results._asdict().items() if v is not None}
    return {name: A.new_empty(shape) for name, shape in shapes.items() if name in wanted}


def _reduce(results: Gradients, G: Gradients, grid: tuple[int, ...], F: Flags, S: Sizes) -> None:
    """Sum the partial sums into the results, in PyTorch, whose sums have a fixed order."""

    def parameter(v: Tensor) -> Tensor:
        v = v.sum(0)
        return v.movedim(0, -1) if F.is_complex and v.dim() == 3 else v

    def projection(v: Tensor, share: int) -> Tensor:
        v = v.unflatten(1, (S.groups // share, share)).sum((2, 3))  # (B, G, L, [2,] N)
        return v.permute(0, 1, 4, 2, 3) if F.is_complex else v.transpose(2, 3).unflatten(3, grid)

    reductions = {
        "A": parameter,
        "B": parameter if F.constant_B else lambda v: projection(v, S.share_B),
        "C": parameter if F.constant_C else lambda v: projection(v, S.share_C),
        "D": parameter,
        "bias": parameter,
        "weight": lambda v: v.sum(0).t(),
    }
    if F.rank:
        reductions["delta"] = lambda v: v.sum((1, 2)).unflatten(2, grid)
    for name, reduction in reductions.items():
        result = getattr(results, name)
        if result is not None:
            result.copy_(reduction(getattr(G, name)))
