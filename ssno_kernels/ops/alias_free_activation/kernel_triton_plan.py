# SPDX-License-Identifier: MIT
"""What a launch of the alias-free activation's Triton kernels is told: links, tiles, strides."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import triton
import triton.language as tl
from torch import Tensor

from ..selective_scan.kernel_triton_plan import processors
from .arguments import Arguments
from .kernel_triton_sweep import Link, Links, Signal, Tiling

AXES = 3  # depth, height, width
LARGEST_WINDOW = 16  # rows that a thread keeps
LARGEST_TILE = 512  # numbers that it keeps of one window


class Flags(NamedTuple):
    """What a kernel is compiled for, besides its links."""

    depth: bool  # filtered along depth; if not, the rows of a tile are planes
    rows: int
    lanes: int
    activation: int

    def constants(self) -> Flags:
        return Flags(*map(tl.constexpr, self))


def link(taps: int, rate: int, period: int, offset: int) -> tuple[Link, int]:
    """The link of the weights h[j + offset - n rate], and `first`."""
    rho = offset % rate
    base = (rho - taps) // rate + 1
    window = (period - 1 + rho) // rate - base + 1
    per = period // rate
    phases = triton.next_power_of_2(period)
    shifts = triton.cdiv(window, per)
    made = Link(taps, rate, period, phases, per, window, shifts, rho, base, True)
    return made, offset // rate + base


UNFILTERED = Link(1, 1, 1, 1, 1, 1, 1, 0, 0, False)


class Plan(NamedTuple):
    """Of the links U of x and V of out, by axis, with axes in the order of the kernels."""

    order: tuple[int | None, ...]  # which axes of the grid are depth, height, width
    U: Links
    V: Links
    first_u: tuple[int, ...]
    first_v: tuple[int, ...]

    def signal(self, t: Tensor, first: tuple[int, ...]) -> Signal:
        """A tensor (B, C, *grid) as the kernels see it."""
        size = tuple(1 if axis is None else t.shape[2 + axis] for axis in self.order)
        strides = (0 if axis is None else t.stride(2 + axis) for axis in self.order)
        return Signal(size, first, (*t.stride()[:2], *strides))

    def fits(self) -> bool:
        """Whether the window of rows, and what is written out for it, are small enough."""
        phases = self.U.d.phases * self.U.w.phases
        windows = [getattr(L, axis).window for L in (self.U, self.V) for axis in "dhw"]
        return max(windows) <= LARGEST_WINDOW and max(windows) * phases <= LARGEST_TILE


def plan(a: Arguments) -> Plan:
    axes = a.x.dim() - 2
    # the fastest axis in memory that has a length is the width
    by_stride = sorted(range(axes), key=lambda i: (a.x.shape[2 + i] > 1, -a.x.stride(2 + i)))
    order = {1: (None, None), 2: (None,), 3: ()}[axes] + tuple(by_stride)
    period = math.lcm(a.up, a.down)
    U, V, first_u, first_v = [], [], [], []
    for axis in order:
        u, v = (UNFILTERED, 0), (UNFILTERED, 0)
        if axis is not None:
            taps = a.up_filter.shape[0]
            u = link(taps, a.up, period, taps - 1 - a.padding[2 * axis])
            v = link(a.down_filter.shape[0], a.down, period, 0)
        for found, (made, first) in (((U, first_u), u), ((V, first_v), v)):
            found[0].append(made)
            found[1].append(first)
    return Plan(order, Links(*U), Links(*V), tuple(first_u), tuple(first_v))


def periods(L: Link, first: int, size: int) -> tuple[int, int]:
    """The first period and the last, + 1, whose own samples include some of 0, ..., size - 1."""
    return -first // L.per, (size - 1 - first) // L.per + 1


def _tiles(count: int, length: int, shifts: int) -> int:
    return triton.cdiv(count, length - shifts + 1)


def _lanes(count: int, shifts: int, choices: tuple[int, ...]) -> int:
    """The length of tiles that cover `count` periods with the fewest threads."""
    fitting = [n for n in choices if n > shifts] or [2 * triton.next_power_of_2(shifts)]
    return min(fitting, key=lambda n: (_tiles(count, n, shifts) * n, n))


def tiles(L: Links, S: Signal, x: Tensor, activation: int) -> tuple[Tiling, Flags]:
    """Tiles of the signal S, which is reduced to by the links L."""
    spans = [periods(*of) for of in zip(L, S.first, S.size, strict=True)]
    counts = [last - first for first, last in spans]
    planes = x.shape[0] * x.shape[1]
    lanes = _lanes(counts[2], L.w.shifts, (8, 16, 32))
    device = x.device.type != "cpu"
    if L.d.filtered:
        rows = _lanes(counts[0], L.d.shifts, (8, 16))
        tiles_d, blocks = _tiles(counts[0], rows, L.d.shifts), planes
    else:
        rows = min(128 // lanes if device else 64, triton.next_power_of_2(planes))
        tiles_d, blocks = 1, triton.cdiv(planes, rows)
    tiles_w = _tiles(counts[2], lanes, L.w.shifts)
    programs = blocks * tiles_d * tiles_w
    # strips repeat shifts - 1 periods: at least four times as many make them worth their while
    wanted = triton.cdiv(8 * processors(x.device), max(programs, 1))
    strip = max(triton.cdiv(counts[1], wanted), 4 * (L.h.shifts - 1), 1)
    origin = (spans[0][0] - (L.d.shifts - 1), spans[1][0], spans[2][0] - (L.w.shifts - 1))
    strips = triton.cdiv(counts[1], strip)
    if not L.d.filtered:
        origin = (0, *origin[1:])
    T = Tiling(
        origin, planes, x.shape[1], tiles_d, tiles_w, strips, strip, spans[1][1]
    )
    return T, Flags(L.d.filtered, rows, lanes, activation), blocks * tiles_d * tiles_w * strips


def split(value: float) -> tuple[float, float]:
    """A number in two parts that float32, which Triton passes numbers in, can hold."""
    high = float(np.float32(value))
    return high, (value - high if math.isfinite(high) else 0.0)
