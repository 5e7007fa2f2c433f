# SPDX-License-Identifier: MIT
"""The arguments of the Triton kernels of `damped_conv`, in tuples."""

from __future__ import annotations

from typing import NamedTuple

import triton.language as tl

from ..selective_scan.kernel_triton_math import INTERPRETED


class Flags(NamedTuple):
    """What a kernel is compiled for."""

    steps: int  # T, of a chunk
    bits: int  # log2 T
    slice: int  # of T, that products of matrices run over at once
    columns: int  # C, chunks of a tile
    doublings: int  # log2 C
    column_slice: int  # of C, likewise
    block_n: int
    sweeps: int
    forward: int  # which sweep starts at t = 0; -1 where none does
    backward: int  # which one starts at t = L-1
    periodic: bool
    precision: str  # of products of matrices

    def constants(self) -> Flags:
        """The same as the compiler wants them; to the interpreter they are numbers."""
        return self if INTERPRETED else Flags(*map(tl.constexpr, self))


class Sizes(NamedTuple):
    """What a kernel is launched for, and not compiled anew for."""

    channels: int
    rows: int  # lines of a channel
    length: int
    modes: int
    blocks: int  # of modes that states are carried for: 0 where no chunk starts from a state
    lines: int  # of a tile
    segments: int  # of a line; where more than one, lines is 1
    shift: int  # whether what lies beyond the last sample of a last, short chunk matters


class Array(NamedTuple):
    """A tensor (B, H, *grid), or states (segment, S, B, H, *others, N, 2), and its strides.

    rows: of the axes that lines are counted over, the last one fastest. outer: of the segment,
    the sweep, the mode and the imaginary part; of a tensor, of the time.
    """

    pointer: object
    rows: tuple[int, ...]
    channel: int
    outer: tuple[int, ...]
