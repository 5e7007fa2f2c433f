# SPDX-License-Identifier: MIT
"""What a launch of the alias-free activation's Triton kernels is told: links, tiles, strides."""

from __future__ import annotations

import math
from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from ..selective_scan.kernel_triton_plan import processors
from .arguments import Arguments
from .kernel_triton_arguments import Link, Links, Signal, Tiling

AXES = 3  # depth, height, width


class Flags(NamedTuple):
    """What a kernel is compiled for, besides its links."""

    depth: int  # periods of depth in a tile
    rows: int  # the same for all planes of the tile
    lanes: int  # periods of width
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
    first_taps = [rho - (base + w) * rate for w in range(window)]  # of phase 0
    full = [w for w, k in enumerate(first_taps) if 0 <= k <= taps - period and phases == period]
    ends = (full[0], full[-1] + 1) if full else (0, 0)
    made = Link(taps, rate, period, phases, per, window, shifts, rho, base, *ends, True)
    return made, offset // rate + base


UNFILTERED = Link(1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, False)


class Plan(NamedTuple):
    """Of the links U of x and V of out, by axis, with axes in the order of the kernels."""

    order: tuple[int | None, ...]  # which axes of the grid are depth, height, width
    U: Links
    V: Links
    first_u: tuple[int, ...]
    first_v: tuple[int, ...]
    fine: tuple[int, ...]  # sizes of the upsampled signal

    def constants(self) -> tuple[Link, ...]:
        return tuple(L.constants() for L in (*self.U, *self.V))

    def signal(self, t: Tensor, first: tuple[int, ...]) -> Signal:
        """A tensor (B, C, *grid) as the kernels see it."""
        size = tuple(1 if axis is None else t.shape[2 + axis] for axis in self.order)
        strides = (0 if axis is None else t.stride(2 + axis) for axis in self.order)
        return Signal(size, first, (*t.stride()[:2], *strides))


def plan(a: Arguments) -> Plan:
    axes = a.x.dim() - 2
    order: tuple[int | None, ...]
    strides = a.x.stride()[2:]
    if on_device(a.x):  # the fastest axis that has a length is the width
        slowest = sorted(range(axes), key=lambda i: (a.x.shape[2 + i] > 1, -strides[i]))
        order = (None, None, *slowest)[-AXES:]
    else:  # the shortest of three is swept, of two none
        d, w = (None, *sorted(range(axes), key=lambda i: a.x.shape[2 + i]))[-2:]
        order = (d, None if axes < AXES else min(set(range(axes)) - {d, w}), w)
    period = math.lcm(a.up, a.down)
    K, M = a.up_filter.shape[0], a.down_filter.shape[0]
    U, V, fine, first_u, first_v = [], [], [], [], []
    for axis in order:
        u = v = (UNFILTERED, 0)
        size = 1
        if axis is not None:
            low, high = a.padding[2 * axis : 2 * axis + 2]
            u, v = link(K, a.up, period, K - 1 - low), link(M, a.down, period, 0)
            size = a.x.shape[2 + axis] * a.up + low + high - K + 1
        U.append(u[0])
        V.append(v[0])
        first_u.append(u[1])
        first_v.append(v[1])
        fine.append(size)
    return Plan(order, Links(*U), Links(*V), tuple(first_u), tuple(first_v), tuple(fine))


def warps(F: Flags) -> int:
    return min(max(1, F.rows * F.lanes // 32), 32)


def periods(L: Link, first: int, size: int) -> tuple[int, int]:
    """The first period and the last, + 1, whose own samples include some of 0, ..., size - 1."""
    return -first // L.per, (size - 1 - first) // L.per + 1


def _tiles(count: int, length: int, shifts: int) -> int:
    return int(triton.cdiv(count, length - shifts + 1))


def _length(count: int, shifts: int, longest: int) -> int:
    """The shortest tile that holds `count` periods, else the longest."""
    longest = max(longest, 2 * triton.next_power_of_2(shifts))
    return int(min(max(8, triton.next_power_of_2(count + shifts - 1)), longest))


def on_device(x: Tensor) -> bool:
    """Not so in the interpreter, whose time is that of operations, whatever the size of a tile."""
    return x.device.type != "cpu"


def tiles(
    L: Links, S: Signal, x: Tensor, fine: tuple[int, ...], activation: int
) -> tuple[Tiling, Flags, int]:
    """(tiles of the signal S, which the links L reduce to; flags; number of programs)."""
    spans = [periods(*of) for of in zip(L, S.first, S.size, strict=True)]
    counts = [last - first for first, last in spans]
    planes = x.shape[0] * x.shape[1]
    threads, enough = 128, 8 * processors(x.device)
    longest = (16, 16) if L.d.filtered else (1, 32)
    if not on_device(x):
        threads, enough, longest = (1 << 20) // (L.d.phases * L.w.phases), 1, (32, 128)
    depth = _length(counts[0], L.d.shifts, longest[0]) if L.d.filtered else 1
    lanes = _length(counts[2], L.w.shifts, longest[1])
    share = max(1, min(threads // (lanes * depth), triton.next_power_of_2(planes)))
    tiles_d, tiles_w = _tiles(counts[0], depth, L.d.shifts), _tiles(counts[2], lanes, L.w.shifts)
    programs = triton.cdiv(planes, share) * tiles_d * tiles_w
    # strips repeat shifts - 1 periods: at least four times as many make them worth their while
    strip = triton.cdiv(counts[1], triton.cdiv(enough, programs))
    strip = max(strip, 4 * (L.h.shifts - 1), 1)
    strips = triton.cdiv(counts[1], strip)
    origin = (spans[0][0] - (L.d.shifts - 1), spans[1][0], spans[2][0] - (L.w.shifts - 1))
    T = Tiling(origin, fine, spans[1][1], planes, x.shape[1], tiles_d, tiles_w, strips, strip)
    return T, Flags(depth, depth * share, lanes, activation), programs * strips
