# SPDX-License-Identifier: MIT
"""What the Triton kernels of the alias-free activation share: tiles, links, and sums along them.

A link joins the samples n of a coarse grid with those j of the fine one where the nonlinearity
acts, along one axis, by the weight h[j + offset - n rate], where that is a tap of h. Fine samples
come in periods, the least common multiple of up and down; the samples that period I is linked with
are I per + first + w, w < window, its phase q by tap q + rho - (base + w) rate. (A3) and the
transpose of (A5) expand by a link, (A5) and the transpose of (A3) reduce by one.

A tile of fine samples is [PD, PW, ROWS, LANES]: phases of the depth and of the width, in registers,
and periods of them, one a thread; where depth is not filtered, ROWS are planes. Height is swept.
"""

from __future__ import annotations

from typing import NamedTuple

import triton.language as tl

from ..selective_scan.kernel_triton_math import inline


class Link(NamedTuple):
    """What a kernel is compiled for along one axis; an axis that is not filtered has one tap, 1."""

    taps: int
    rate: int
    period: int
    phases: int  # the period, rounded up to a power of two
    per: int
    window: int
    shifts: int  # periods that a coarse sample is linked with
    rho: int
    base: int
    filtered: bool

    def constants(self) -> Link:
        return Link(*map(tl.constexpr, self))


class Links(NamedTuple):
    """Of the depth, the height and the width."""

    d: Link
    h: Link
    w: Link


class Signal(NamedTuple):
    """A coarse signal (B, C, D, H, W): its sizes and strides, and `first` of its links."""

    size: tuple
    first: tuple
    stride: tuple


class Tiling(NamedTuple):
    """The period of the first row, plane and lane of the first tile, and how many of each."""

    origin: tuple
    planes: int  # B C
    channels: int
    tiles_d: int
    tiles_w: int
    strips: int
    strip: int  # periods of a strip
    last: int  # period of the height, + 1


@inline
def number(parts, dtype: tl.constexpr):
    """What `kernel_triton_plan.split` took apart."""
    return tl.full([], parts[0], dtype) + tl.full([], parts[1], dtype)


@inline
def taps_of(pointer, step, L: tl.constexpr, scale: tl.constexpr, reverse: tl.constexpr):
    """The weights of a link, as a tuple of scalars."""
    if not L.filtered:
        return (1.0,)
    else:
        h = ()
        for k in tl.static_range(L.taps):
            at = L.taps - 1 - k if reverse else k
            h = h + (scale * tl.load(pointer + at * step),)  # noqa: RUF005
        return h


@inline
def phase_taps(h, L: tl.constexpr, w: tl.constexpr, dtype: tl.constexpr):
    """The weights of all phases for member w of the window, and which of them are taps."""
    q = tl.arange(0, L.phases)
    k = q + (L.rho - (L.base + w) * L.rate)
    weights = tl.zeros([L.phases], dtype)
    for i in tl.static_range(L.taps):
        weights = tl.where(k == i, h[i], weights)
    return weights, (k >= 0) & (k < L.taps) & (q < L.period)


@inline
def window_taps(h, L: tl.constexpr, dtype: tl.constexpr):
    found = ()
    for w in tl.static_range(L.window):
        found = found + (phase_taps(h, L, w, dtype),)  # noqa: RUF005
    return found


@inline
def add_tap(total, h, k: tl.constexpr, x):
    """total + h[k] x where there is such a tap: no zero is multiplied by what may be NaN."""
    if k >= 0 and k < len(h):
        return total + h[k] * x
    else:
        return total


@inline
def slide(values, count: tl.constexpr, new):
    """The tuple without its first `count`, and with the new ones."""
    kept = ()
    for i in tl.static_range(len(values) - count):
        kept = kept + (values[count + i],)  # noqa: RUF005
    return kept + new


@inline
def zeros(count: tl.constexpr, like):
    values = ()
    for _ in tl.static_range(count):
        values = values + (tl.zeros_like(like),)  # noqa: RUF005
    return values


@inline
def place_of(T, SHIFTS_D: tl.constexpr, SHIFTS_W: tl.constexpr, F: tl.constexpr):
    """What a program works on: planes, periods of depth and width, first and last strip period.

    The first shifts - 1 rows and lanes of a tile only add to the sums of others.
    """
    i = tl.program_id(0)
    strip = i % T.strips
    i = i // T.strips
    tile_w = i % T.tiles_w
    i = i // T.tiles_w
    rows = tl.arange(0, F.rows)
    if F.depth:
        period_d = T.origin[0] + i % T.tiles_d * (F.rows - SHIFTS_D + 1) + rows
        plane = i // T.tiles_d + rows * 0
    else:
        period_d = rows * 0
        plane = i * F.rows + rows
    period_w = T.origin[2] + tile_w * (F.lanes - SHIFTS_W + 1) + tl.arange(0, F.lanes)
    begin = T.origin[1] + strip * T.strip
    return plane, period_d, period_w, begin, tl.minimum(begin + T.strip, T.last)


@inline
def corner(pointer, A, plane, period_d, period_w, channels, D: tl.constexpr, W: tl.constexpr):
    """Pointers [ROWS, LANES] to the first samples linked with periods, in row 0, and their place.

    The place: samples of depth [ROWS, 1] and of width [1, LANES].
    """
    b = (plane // channels).to(tl.int64)
    c = (plane % channels).to(tl.int64)
    n_d = (period_d * D.per + A.first[0])[:, None]
    n_w = (period_w * W.per + A.first[2])[None, :]
    rows = (b * A.stride[0] + c * A.stride[1])[:, None] + n_d.to(tl.int64) * A.stride[2]
    return pointer + rows + n_w.to(tl.int64) * A.stride[4], n_d, n_w


@inline
def within(n, size):
    return (n >= 0) & (n < size)


@inline
def expand_row(
    place, n_h, A, planes, bias, weights_d, weights_w,
    D: tl.constexpr, W: tl.constexpr, F: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """A coarse row expanded along depth and width: [PD, PW, ROWS, LANES]."""
    pointers, n_d, n_w = place
    pointers += tl.cast(n_h, tl.int64) * A.stride[3]
    row = planes & within(n_h, A.size[1])
    total = tl.zeros([D.phases, W.phases, F.rows, F.lanes], dtype)
    for v in tl.static_range(D.window):
        plane = row & within(n_d + v, A.size[0]) if F.depth else row
        y = tl.zeros([W.phases, F.rows, F.lanes], dtype)
        for w in tl.static_range(W.window):
            mask = plane & within(n_w + w, A.size[2])
            x = tl.load(pointers + w * A.stride[4] + v * A.stride[2], mask=mask, other=0.0)
            x = x.to(dtype)
            if bias is not None:
                x = tl.where(mask, x + bias, 0.0)
            taps, reached = weights_w[w]
            y += tl.where(reached[:, None, None], taps[:, None, None] * x[None], 0.0)
        if F.depth:
            taps, reached = weights_d[v]
            product = taps[:, None, None, None] * y[None]
            total += tl.where(reached[:, None, None, None], product, 0.0)
        else:
            total += y[None]
    return total


@inline
def load_rows(
    first: tl.constexpr, count: tl.constexpr, I, place, A, planes, bias, weights_d, weights_w,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr, F: tl.constexpr, dtype: tl.constexpr,
):  # fmt: skip
    """Expanded rows first, ..., first + count - 1 of the window of period I."""
    rows = ()
    for w in tl.static_range(count):
        n_h = I * H.per + A.first[1] + (first + w)
        row = expand_row(place, n_h, A, planes, bias, weights_d, weights_w, D, W, F, dtype)
        rows = rows + (row,)  # noqa: RUF005
    return rows


@inline
def expand(window, h, L: tl.constexpr, q: tl.constexpr):
    """Phase q of the height, from the window."""
    total = tl.zeros_like(window[0])
    for w in tl.static_range(L.window):
        total = add_tap(total, h, q + L.rho - (L.base + w) * L.rate, window[w])
    return total


@inline
def reduce(sums, h, L: tl.constexpr, q: tl.constexpr, t):
    """The open sums with phase q of the height added."""
    new = ()
    for w in tl.static_range(L.window):
        total = add_tap(sums[w], h, q + L.rho - (L.base + w) * L.rate, t)
        new = new + (total,)  # noqa: RUF005
    return new


@inline
def reduce_lanes(z, weights, L: tl.constexpr, o: tl.constexpr, axis: tl.constexpr):
    """Coarse sample o of each period, from z [..., phases, ROWS, LANES] along `axis` of z.

    The phases lie two axes before `axis`, and are summed.
    """
    period = tl.arange(0, z.shape[axis])
    total = tl.zeros_like(z)
    for s in tl.static_range(L.shifts):
        if s * L.per + o < L.window:
            moved = z
            if s > 0:
                index = tl.maximum(period - s, 0)
                index = index[None, :, None] if axis == 1 else index[None, None, None, :]
                moved = tl.gather(z, tl.broadcast_to(index, z.shape), axis)
            taps, reached = weights[s * L.per + o]
            if axis == 1:
                product = taps[:, None, None] * moved
                total += tl.where(reached[:, None, None], product, 0.0)
            else:
                product = taps[None, :, None, None] * moved
                total += tl.where(reached[None, :, None, None], product, 0.0)
    return tl.sum(total, 0 if axis == 1 else 1)


@inline
def finished(z, weights_d, weights_w, D: tl.constexpr, o_d: tl.constexpr, W: tl.constexpr,
             o_w: tl.constexpr, F: tl.constexpr):  # fmt: skip
    """[ROWS, LANES] of coarse samples from a row's sums z [PD, PW, ROWS, LANES]."""
    y = reduce_lanes(z, weights_w, W, o_w, 3)
    if F.depth:
        return reduce_lanes(y, weights_d, D, o_d, 1)
    else:
        return tl.sum(y, 0)


@inline
def kept(place, planes, A, o_d: tl.constexpr, o_w: tl.constexpr, D: tl.constexpr, W: tl.constexpr,
         F: tl.constexpr):  # fmt: skip
    """Which coarse samples o of the periods of a tile are this tile's to write."""
    _, n_d, n_w = place
    lanes = tl.arange(0, F.lanes)[None, :] >= W.shifts - 1
    mask = planes & lanes & within(n_w + o_w, A.size[2])
    if F.depth:
        rows = tl.arange(0, F.rows)[:, None] >= D.shifts - 1
        mask &= rows & within(n_d + o_d, A.size[0])
    return mask
