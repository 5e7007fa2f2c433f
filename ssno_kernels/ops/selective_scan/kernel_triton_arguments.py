# SPDX-License-Identifier: MIT
"""The arguments of the Triton kernels of `selective_scan`, in tuples."""

from __future__ import annotations

from typing import NamedTuple

import triton.language as tl
from torch import Tensor


class Flags(NamedTuple):
    """What a kernel is compiled for."""

    states: int
    block_n: int
    block_d: int
    steps: int
    is_complex: bool
    constant_B: bool
    constant_C: bool
    rank: int
    softplus: bool
    reverse: bool
    axes: int  # of the grid; 1 for a sequence

    def constants(self) -> Flags:
        """The same as the compiler wants them."""
        return Flags(*map(tl.constexpr, self))


class Inputs(NamedTuple):
    """Canonical arguments, but for A and constant B, C in planes ([2,] D, N) and weight (R, D)."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    bias: Tensor | None
    weight: Tensor | None
    state: Tensor | None  # that enters the chunks or, where there is one chunk, the sequence


class Strides(NamedTuple):
    """Of (B, D, *grid) tensors; of B, C (B, G, N, im, *grid); of a state (chunk, B, D, N, im)."""

    u: tuple[int, ...]
    delta: tuple[int, ...]
    B: tuple[int, ...]
    C: tuple[int, ...]
    z: tuple[int, ...]
    state: tuple[int, ...]


class Sizes(NamedTuple):
    """What a kernel is launched for; blocks counts the channel blocks of one group."""

    channels: int
    length: int
    inner: tuple[int, ...]  # sizes of the axes of the grid but for the slowest
    chunk: int
    interval: int
    scans: int  # that save checkpoints, one after the other, in each entry of the batch
    groups: int
    blocks: int
    share_B: int  # groups of channels to a group of B
    share_C: int
