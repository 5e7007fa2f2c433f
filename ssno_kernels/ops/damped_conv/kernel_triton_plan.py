# SPDX-License-Identifier: MIT
"""What a launch of the Triton kernels of `damped_conv` is told: flags, sizes, strides."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import triton
from torch import Tensor

from ..selective_scan.kernel_triton_math import INTERPRETED
from .kernel_triton_arguments import Array, Flags, Sizes

TILE = 4096  # samples of a tile
BLOCK_N = 16
SLICE = 16  # of samples or chunks, of a product of matrices
WHOLE = INTERPRETED  # no slices: to the interpreter one large operation is as good as a small one
FORCED_COLUMNS: int | None = None  # tests set it to cut short lines into segments


class Lines(NamedTuple):
    """How the lines of a channel are counted: the axes of the grid but for `dim`, and the batch."""

    axes: tuple[int, ...]  # of (B, H, *grid), the last one counted fastest
    sizes: tuple[int, ...]
    dim: int

    def inner(self) -> tuple[int, ...]:
        return self.sizes[1:]

    def samples(self, x: Tensor | None) -> Array | None:
        """x (B, H, *grid) as a kernel's argument."""
        if x is None:
            return None
        rows = tuple(x.stride(axis) for axis in self.axes)
        return Array(x, rows, x.stride(1), (x.stride(self.dim),))

    def states(self, x: Tensor | None) -> Array | None:
        """States (S, B, H, *grid without dim, N, 2) as a kernel's argument."""
        if x is None:
            return None
        rows = tuple(x.stride(1 + axis - (axis > self.dim)) for axis in self.axes)
        return Array(x, rows, x.stride(2), (0, x.stride(0), x.stride(-2), x.stride(-1)))

    def ends(self, x: Tensor) -> Array:
        """Contiguous states (segments, S, rows, H, N, 2), one for each segment."""
        rows = tuple(x.stride(2) * math.prod(self.sizes[i + 1 :]) for i in range(len(self.sizes)))
        return Array(x, rows, x.stride(3), (x.stride(0), x.stride(1), x.stride(4), 1))


def lines_of(u: Tensor, dim: int, swept: list[Tensor | None], states: list[Tensor | None]) -> Lines:
    """As few axes as the strides of all tensors allow: those of size 1 go, neighbours that lie in
    memory as one axis become one, the slower of the two being kept with the strides of the faster.
    """
    axes = [a for a in range(u.dim()) if a not in (1, dim) and u.shape[a] != 1]
    every = Lines(tuple(axes), tuple(u.shape[a] for a in axes), dim)
    arrays = [*map(every.samples, swept), *map(every.states, states)]
    rows = [array.rows for array in arrays if array is not None]
    kept: list[int] = []
    sizes: list[int] = []
    for i, axis in enumerate(axes):
        n = u.shape[axis]
        if i and all(r[i - 1] == r[i] * n for r in rows):
            kept[-1], sizes[-1] = axis, sizes[-1] * n
        else:
            kept.append(axis)
            sizes.append(n)
    return Lines(tuple(kept) or (0,), tuple(sizes) or (u.shape[0],), dim)


def precision(u: Tensor) -> str:
    """Of products: tensor cores for 16 bits, whose 11 tf32 keeps, and where the user allows it."""
    half = u.dtype in (torch.bfloat16, torch.float16)
    allowed = torch.backends.cuda.matmul.fp32_precision == "tf32" and u.dtype == torch.float32
    return "tf32" if half or allowed else "ieee"


def chunk_steps(length: int) -> int:
    """T: a line of up to 64 samples is one chunk and, from rest to rest, needs no states."""
    return 16 if length <= 16 else 32 if length <= 32 else 64


def plan(
    u: Tensor, rate: Tensor, lines: Lines, direction: int, periodic: bool, has_states: bool
) -> tuple[Flags, Sizes, bool]:
    """Flags, sizes, whether states are carried; `has_states`: some are given or asked for."""
    length, channels = u.shape[lines.dim], u.shape[1]
    sweeps, _, modes, _ = rate.shape
    steps = chunk_steps(length)
    columns = FORCED_COLUMNS or TILE // steps
    chunks = triton.cdiv(length, steps)
    segments = triton.cdiv(chunks, columns)
    outer = has_states or periodic
    F = Flags(
        steps, steps.bit_length() - 1, steps if WHOLE else SLICE, columns,
        columns.bit_length() - 1, columns if WHOLE else SLICE, BLOCK_N, sweeps,
        -1 if direction == 1 else 0, (-1, 0, 1)[direction], periodic and segments == 1,
        precision(u),
    )  # fmt: skip
    S = Sizes(
        channels, math.prod(lines.sizes), length, modes, triton.cdiv(modes, BLOCK_N),
        columns // chunks if segments == 1 else 1, segments,
        int(outer and length % steps != 0),
    )  # fmt: skip
    return F, S, outer or chunks > 1
