# SPDX-License-Identifier: MIT
"""Triton backend of `selective_scan`: plans and launches its kernels.

A program is one warp that sweeps one block of channels. Where batch and channels do not fill the
device, the sequence is cut into chunks: one kernel finds the affine map of each chunk, one
composes the maps to the state that enters each chunk, and the scan then runs on all chunks at once.
What a kernel is compiled for follows from dtypes, D, N, R and the kinds of arguments. Of B and L it
matters only whether rows start on 16 elements and, without an initial state, whether L is cut.

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

import math
from functools import cache

import torch
import triton
from torch import Tensor

from .kernel_triton_bwd import (
    Gradients,
    GradientStrides,
    Scratch,
    adjoint_chunk_end_kernel,
    selective_scan_bwd_kernel,
)
from .kernel_triton_fwd import carry_kernel, chunk_end_kernel, selective_scan_fwd_kernel
from .kernel_triton_steps import Flags, Inputs, Sizes, Strides

FORWARD_STEPS = 8
FORCED_CHUNK: int | None = None  # tests set it to cut short sequences


@cache
def processors(device: torch.device) -> int:
    """How many multiprocessors a device has; the interpreter runs one program after the other."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return 64 if device.type == "xpu" else 1


def steps_for(capability: int) -> int:
    """Steps to a tile of the backward: as many as the registers of an NVIDIA device hold.

    Before compute capability 9, addresses take more of them, and 4 steps would spill.
    """
    return 4 if capability >= 9 else 2


@cache
def backward_steps(device: torch.device) -> int:
    if device.type == "cuda" and torch.version.hip is None:
        return steps_for(torch.cuda.get_device_capability(device)[0])
    return 4


def _groups(B: Tensor, C: Tensor) -> int:
    """Groups of channels that share their rows of both B and C."""
    return math.lcm(*(M.shape[1] if M.dim() >= 4 else 1 for M in (B, C)))


def _flags(u, A, B, C, weight, softplus, reverse, steps) -> Flags:
    """A thread holds 8 real or 4 complex numbers of a tile of states, if there are channels."""
    states, is_complex = A.shape[1], A.dim() == 3
    block_n = min(8 if is_complex else 16, triton.next_power_of_2(states))
    per_group = triton.next_power_of_2(u.shape[1] // _groups(B, C))
    block_d = min((128 if is_complex else 256) // block_n, 64, per_group)
    rank = 0 if weight is None else weight.shape[1]
    constant_B, constant_C = (M.dim() - is_complex == 2 for M in (B, C))
    return Flags(
        states, block_n, block_d, steps, is_complex, constant_B, constant_C, rank, softplus, reverse
    )


def _sizes(u, B, C, F: Flags, interval: int, enough: int) -> tuple[Sizes, int]:
    """Also the number of chunks: L is cut if less than `enough` programs a multiprocessor run."""
    batch, channels, length = u.shape
    groups = _groups(B, C)
    blocks = triton.cdiv(channels // groups, F.block_d)
    programs = max(batch * groups * blocks, 1)
    count = processors(u.device)
    chunks = 1 if programs >= enough * count else 8 * count // programs
    chunk = triton.cdiv(triton.cdiv(length, chunks), interval) * interval
    chunk = FORCED_CHUNK or chunk
    share = [groups // (M.shape[1] if M.dim() >= 4 else 1) for M in (B, C)]
    sizes = Sizes(channels, length, chunk, interval, groups, blocks, *share)
    return sizes, triton.cdiv(length, chunk)


def _planes(x: Tensor, is_complex: bool) -> Tensor:
    """A parameter (D, N[, 2]) as contiguous planes ([2,] D, N)."""
    return (x.movedim(-1, 0) if is_complex else x).contiguous()


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def _state_strides(x: Tensor | None, is_complex: bool) -> tuple[int, ...]:
    """Strides (chunk, B, D, N, imaginary part) of a state ([chunks,] B, D, N[, 2])."""
    if x is None:
        return (0, 0, 0, 0, 0)
    strides = x.stride() if x.dim() - is_complex == 4 else (0, *x.stride())
    return strides if is_complex else (*strides, 0)


def _projection_strides(M: Tensor) -> tuple[int, ...]:
    """Strides (B, G, N, L, imaginary part) of B or C."""
    if M.dim() < 4:
        return (0, 0, 0, 0, 0)
    return M.stride() if M.dim() == 5 else (*M.stride(), 0)


def _row_strides(x: Tensor | None) -> tuple[int, ...]:
    return (0, 0, 0) if x is None else x.stride()


def _inputs(u, delta, A, B, C, D, z, bias, weight, state, F: Flags) -> tuple[Inputs, Strides]:
    strides = Strides(
        u.stride(), delta.stride(), _projection_strides(B), _projection_strides(C),
        _row_strides(z), _state_strides(state, F.is_complex),
    )  # fmt: skip
    A = _planes(A, F.is_complex)
    B = _planes(B, F.is_complex) if F.constant_B else B
    C = _planes(C, F.is_complex) if F.constant_C else C
    weight = None if weight is None else weight.t().contiguous()
    return Inputs(u, delta, A, B, C, _dense(D), z, _dense(bias), weight, state), strides


def _carry(ends, decays, state, F: Flags, first: int, step: int) -> None:
    """Put the states that enter the chunks in the place of `ends`."""
    count = ends[0].numel() // (1 + F.is_complex)
    carry_kernel[(triton.cdiv(count, 128),)](
        ends, decays, state, _state_strides(state, F.is_complex), count, ends.shape[2],
        ends.shape[0], first, step, F.states, F.is_complex, 128, num_warps=4,
    )  # fmt: skip


def selective_scan_fwd_triton(
    u, delta, A, B, C, D, z, bias, weight, initial_state, softplus, reverse, want_state, interval
) -> tuple[Tensor, Tensor, Tensor]:
    """(out, final_state, checkpoints); see `function`."""
    batch, channels, length = u.shape
    out = torch.empty_like(u)
    final = A.new_empty(batch, *A.shape) if want_state else None
    checkpoints = None
    if interval:
        saved = triton.cdiv(length, interval) - 1
        checkpoints = A.new_empty(batch, saved, A[0].numel(), channels)
    results = out, *(A.new_empty(0) if x is None else x for x in (final, checkpoints))
    if batch == 0:
        return results
    F = _flags(u, A, B, C, weight, softplus, reverse, FORWARD_STEPS)
    S, chunks = _sizes(u, B, C, F, interval or 64, enough=2)
    X, strides = _inputs(u, delta, A, B, C, D, z, bias, weight, initial_state, F)
    partial = A.new_empty(u.shape) if F.states > F.block_n else None
    grid = (batch * chunks * S.groups * S.blocks,)
    if chunks > 1:
        ends, decays = (A.new_empty(chunks, batch, *A.shape) for _ in range(2))
        ends_strides = _state_strides(ends, F.is_complex)
        chunk_end_kernel[grid](
            ends, decays, ends_strides, X, strides, chunks, S, F.constants(), num_warps=1
        )
        _carry(ends, decays, initial_state, F, 0, 1)
        X, strides = X._replace(state=ends), strides._replace(state=ends_strides)
    selective_scan_fwd_kernel[grid](
        out, out.stride(), partial, _row_strides(partial), final,
        _state_strides(final, F.is_complex), checkpoints, X, strides, chunks, S,
        F.constants(), num_warps=1,
    )  # fmt: skip
    return results


def selective_scan_bwd_triton(
    v_out, v_final_state, checkpoints,
    u, delta, A, B, C, D, z, bias, weight, initial_state, softplus, reverse, interval, needs,
) -> tuple[Tensor, ...]:  # fmt: skip
    """The ten cotangents; see `function`."""
    tensors = (u, delta, A, B, C, D, z, bias, weight, initial_state)
    wanted = [need and x is not None for need, x in zip(needs, tensors, strict=True)]
    results = [
        torch.empty_like(x) if want else u.new_empty(0)
        for want, x in zip(wanted, tensors, strict=True)
    ]
    F = _flags(u, A, B, C, weight, softplus, reverse, backward_steps(u.device))
    S, chunks = _sizes(u, B, C, F, interval, enough=8)
    # partial sums of v_B and v_C: at most half of u altogether, but at least one
    parts = max(1, min(S.channels // (4 * S.groups * A[0].numel()), S.blocks))
    G = _partials(results, wanted, A, u.shape[0], parts, chunks, F, S)
    if u.shape[0] > 0 and any(wanted):
        X, strides = _inputs(u, delta, A, B, C, D, z, bias, weight, initial_state, F)
        _adjoint(G, v_out, v_final_state, checkpoints, X, strides, parts, chunks, F, S)
    _reduce(results, wanted, G, F, S)
    return tuple(results)


def _adjoint(
    G, v_out, v_final_state, checkpoints, X, strides, parts: int, chunks: int, F, S
) -> None:
    batch = v_out.shape[0]
    carry, carry_strides = v_final_state, _state_strides(v_final_state, F.is_complex)
    if chunks > 1:
        shape = (chunks, batch, S.channels, F.states, *((2,) if F.is_complex else ()))
        carry, decays = (X.A.new_empty(shape) for _ in range(2))
        carry_strides = _state_strides(carry, F.is_complex)
        adjoint_chunk_end_kernel[(batch * chunks * S.groups * S.blocks,)](
            carry, decays, carry_strides, v_out, v_out.stride(), X, strides, chunks, S,
            F.constants(), num_warps=1,
        )  # fmt: skip
        _carry(carry, decays, v_final_state, F, chunks - 1, -1)
    units = batch * chunks * S.groups * parts
    programs = min(units, 16 * processors(v_out.device))
    scratch, scratch_sizes = _scratch(X.A, programs, F, S)
    gradient_strides = GradientStrides(
        *(_row_strides(x) for x in (G.u, None if F.rank else G.delta, G.z)),
        _state_strides(G.state, F.is_complex),
    )
    selective_scan_bwd_kernel[(programs,)](
        G, gradient_strides, scratch, scratch_sizes, v_out, v_out.stride(), carry, carry_strides,
        checkpoints, X, strides, chunks, S, units, parts, F.constants(), num_warps=1,
    )  # fmt: skip


def _scratch(A: Tensor, programs: int, F: Flags, S: Sizes) -> tuple[Scratch, tuple[int, ...]]:
    """Memory of the programs' own, and how much each has."""
    tiles = triton.cdiv(min(S.interval, S.length), F.steps)
    sizes = (
        tiles * (1 + F.is_complex) * F.block_d * F.block_n,
        3 * F.block_d * S.chunk if F.states > F.block_n else 0,
        F.block_d * S.interval if F.rank else 0,
    )
    return Scratch(*(A.new_empty(programs * size) if size else None for size in sizes)), sizes


def _partials(results, wanted, A, batch: int, parts: int, chunks: int, F, S) -> Gradients:
    """Where the kernel writes: results themselves, or partial sums as `Gradients` says."""
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
    return Gradients(*(
        None if not want else A.new_empty(shapes[name]) if name in shapes else result
        for name, want, result in zip(Gradients._fields, wanted, results, strict=True)
    ))  # fmt: skip


def _reduce(results, wanted, G: Gradients, F: Flags, S: Sizes) -> None:
    """Sum the partial sums into the results, in PyTorch, whose sums have a fixed order."""

    def parameter(v: Tensor) -> Tensor:
        v = v.sum(0)
        return v.movedim(0, -1) if F.is_complex and v.dim() == 3 else v

    def projection(v: Tensor, share: int) -> Tensor:
        v = v.unflatten(1, (S.groups // share, share)).sum((2, 3))  # (B, G, L, [2,] N)
        return v.permute(0, 1, 4, 2, 3) if F.is_complex else v.transpose(2, 3)

    reductions = {
        "A": parameter,
        "B": parameter if F.constant_B else lambda v: projection(v, S.share_B),
        "C": parameter if F.constant_C else lambda v: projection(v, S.share_C),
        "D": parameter,
        "bias": parameter,
        "weight": lambda v: v.sum(0).t(),
    }
    if F.rank:
        reductions["delta"] = lambda v: v.sum((1, 2))
    for name, result, want in zip(Gradients._fields, results, wanted, strict=True):
        if want and name in reductions:
            result.copy_(reductions[name](getattr(G, name)))
