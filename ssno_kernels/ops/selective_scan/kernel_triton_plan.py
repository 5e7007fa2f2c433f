# SPDX-License-Identifier: MIT
"""What a launch of the selective scan's Triton kernels is told: flags, sizes, tensors, strides."""

from __future__ import annotations

import math
from functools import cache

import torch
import triton
from torch import Tensor

from .kernel_triton_arguments import Flags, Inputs, Sizes, Strides

FORWARD_STEPS = 8
FORCED_CHUNK: int | None = None  # tests set it to cut short sequences


@cache
def processors(device: torch.device) -> int:
    """How many multiprocessors a device has; the interpreter runs one program after the other."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).multi_processor_count
    return 64 if device.type == "xpu" else 1


def steps_for(capability: int, low_rank: bool) -> int:
    """Steps to a tile of the backward: as many as the registers of an NVIDIA device hold.

    Before compute capability 9, addresses take more of them, and 4 steps would spill; so they would
    on any with the weights and factors of a low-rank delta.
    """
    return 4 if capability >= 9 and not low_rank else 2


@cache
def backward_steps(device: torch.device, low_rank: bool) -> int:
    if device.type == "cuda" and torch.version.hip is None:
        return steps_for(torch.cuda.get_device_capability(device)[0], low_rank)
    return 4


def fold(X: Inputs, others: list[Tensor | None]) -> tuple[Inputs, list[Tensor | None]]:
    """Views on a grid of as few axes as the strides of all tensors allow.

    `others` are (B, D, *grid), too. Axes of size 1 go, and neighbours that lie in memory as one
    axis become one: row-major order of a dense image is a sequence.
    """
    names = ("u", "delta", "B", "C", "z")
    swept = [getattr(X, name) for name in names] + others
    axes = X.u.dim() - 2
    for outer in range(-axes, -1):
        inner = outer + 1
        if all(v is None or _lie_as_one(v, outer, inner) for v in swept):
            swept = [None if v is None else v.flatten(outer, inner) for v in swept]
    X = X._replace(**dict(zip(names, swept, strict=False)))
    return X, swept[len(names) :]


def _lie_as_one(v: Tensor, outer: int, inner: int) -> bool:
    size = v.shape[inner]
    return v.shape[outer] == 1 or size == 1 or v.stride(outer) == v.stride(inner) * size


def groups_of(X: Inputs) -> int:
    """Groups of channels that share their rows of both B and C."""
    return math.lcm(*(M.shape[1] if M.dim() >= 4 else 1 for M in (X.B, X.C)))


def flags(X: Inputs, softplus: bool, reverse: bool, steps: int) -> Flags:
    """A thread holds 8 real or 4 complex numbers of a tile of states, if there are channels."""
    states, is_complex = X.A.shape[1], X.A.dim() == 3
    block_n = min(8 if is_complex else 16, triton.next_power_of_2(states))
    per_group = triton.next_power_of_2(X.u.shape[1] // groups_of(X))
    block_d = min((128 if is_complex else 256) // block_n, 64, per_group)
    rank = 0 if X.weight is None else X.weight.shape[1]
    constant_B, constant_C = (M.dim() - is_complex == 2 for M in (X.B, X.C))
    return Flags(
        states, block_n, block_d, steps, is_complex, constant_B, constant_C, rank, softplus,
        reverse, X.u.dim() - 2,
    )  # fmt: skip


def sizes(X: Inputs, F: Flags, interval: int, scans: int, enough: int) -> tuple[Sizes, int]:
    """Also the number of chunks: L is cut if less than `enough` programs a multiprocessor run."""
    batch, channels, *grid = X.u.shape
    length = math.prod(grid)
    groups = groups_of(X)
    blocks = triton.cdiv(channels // groups, F.block_d)
    programs = max(batch * groups * blocks, 1)
    count = processors(X.u.device)
    chunks = 1 if programs >= enough * count else 8 * count // programs
    chunk = triton.cdiv(triton.cdiv(length, chunks), interval) * interval
    chunk = FORCED_CHUNK or chunk
    share = [groups // (M.shape[1] if M.dim() >= 4 else 1) for M in (X.B, X.C)]
    S = Sizes(channels, length, tuple(grid[1:]), chunk, interval, scans, groups, blocks, *share)
    return S, triton.cdiv(length, chunk)


def state_strides(x: Tensor | None, is_complex: bool) -> tuple[int, ...]:
    """Strides (chunk, B, D, N, imaginary part) of a state ([chunks,] B, D, N[, 2])."""
    if x is None:
        return (0, 0, 0, 0, 0)
    strides = x.stride() if x.dim() - is_complex == 4 else (0, *x.stride())
    return strides if is_complex else (*strides, 0)


def _projection_strides(M: Tensor, F: Flags) -> tuple[int, ...]:
    """Strides (B, G, N, imaginary part, *grid) of a B or C that is not constant."""
    if M.dim() < 4:
        return (0,) * (4 + F.axes)
    *lead, imaginary = M.stride() if F.is_complex else (*M.stride(), 0)
    return (*lead[:3], imaginary, *lead[3:])


def row_strides(x: Tensor | None, F: Flags) -> tuple[int, ...]:
    return (0,) * (2 + F.axes) if x is None else x.stride()


def _planes(x: Tensor, is_complex: bool) -> Tensor:
    """A parameter (D, N[, 2]) as contiguous planes ([2,] D, N)."""
    return (x.movedim(-1, 0) if is_complex else x).contiguous()


def _dense(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.contiguous()


def for_kernel(X: Inputs, F: Flags) -> tuple[Inputs, Strides]:
    """The inputs, small ones copied where a kernel needs them contiguous, and their strides."""
    strides = Strides(
        X.u.stride(), X.delta.stride(), _projection_strides(X.B, F), _projection_strides(X.C, F),
        row_strides(X.z, F), state_strides(X.state, F.is_complex),
    )  # fmt: skip
    dense = X._replace(
        A=_planes(X.A, F.is_complex),
        B=_planes(X.B, F.is_complex) if F.constant_B else X.B,
        C=_planes(X.C, F.is_complex) if F.constant_C else X.C,
        D=_dense(X.D),
        bias=_dense(X.bias),
        weight=None if X.weight is None else X.weight.t().contiguous(),
    )
    return dense, strides
