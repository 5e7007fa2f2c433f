# SPDX-License-Identifier: MIT
"""What the Triton kernels of the alias-free activation share: tiles, links, and sums along them.

A link joins the samples n of a coarse grid with those j of the fine one where the nonlinearity
acts, along one axis, by the weight h[j + offset - n rate], where that is a tap of h. Fine samples
come in periods, the least common multiple of up and down; the samples that period I is linked with
are I per + first + w, w < window, its phase q by tap q + rho - (base + w) rate. (A3) and the
transpose of (A5) expand by a link, (A5) and the transpose of (A3) reduce by one.

A tile of fine samples is [PD, PW, ROWS, LANES]: phases of depth and width, in registers, and their
periods, one a thread. ROWS are the periods of depth of one or more planes. Height is swept.
"""

from __future__ import annotations

import triton.language as tl

from ..selective_scan.kernel_triton_math import inline


@inline
def taps_of(pointer, step, L: tl.constexpr, scale: tl.constexpr, reverse: tl.constexpr):
    """The weights of a link, as a tuple of scalars."""
    h = ()
    for k in tl.static_range(L.taps):
        at = L.taps - 1 - k if reverse else k
        h = h + (scale * tl.load(pointer + at * step),)  # noqa: RUF005
    return h


@inline
def with_tap(weights, at, h, k: tl.constexpr):
    """The weights, with h[k] in some places where there is such a tap."""
    if k >= 0 and k < len(h):
        return tl.where(at, h[k], weights)
    else:
        return weights


@inline
def phase_taps(h, q, L: tl.constexpr, w: tl.constexpr, dtype: tl.constexpr):
    """The weights of the phases q for member w of the window, and which of them are taps."""
    weights = tl.full(q.shape, 0.0, dtype)
    for i in tl.static_range(L.period):
        weights = with_tap(weights, q == i, h, i + L.rho - (L.base + w) * L.rate)
    if w >= L.full_from and w < L.full_to:
        return weights, q
    else:
        k = q + (L.rho - (L.base + w) * L.rate)
        return weights, (k >= 0) & (k < L.taps) & (q < L.period)


@inline
def window_taps(h, L: tl.constexpr, AXIS: tl.constexpr, F: tl.constexpr, dtype: tl.constexpr):
    """`phase_taps` of the whole window, along axis 0 or 1 of a tile.

    These are whole tiles, so that a phase is the number of a register.
    """
    found = ()
    if L.filtered:
        q = tl.arange(0, L.phases)
        q = q[:, None, None, None] if AXIS == 0 else q[None, :, None, None]
        q = tl.broadcast_to(q, [q.shape[0], q.shape[1], F.rows, F.lanes])
        for w in tl.static_range(L.window):
            found = found + (phase_taps(h, q, L, w, dtype),)  # noqa: RUF005
    return found


@inline
def add_phases(total, weights, L: tl.constexpr, w: tl.constexpr, x):
    """total + weights x where there are such taps: no zero is multiplied by what may be NaN."""
    product = weights[w][0] * x
    if w >= L.full_from and w < L.full_to:
        return total + product
    else:
        return total + tl.where(weights[w][1], product, 0.0)


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
def copies(count: tl.constexpr, value):
    values = ()
    for _ in tl.static_range(count):
        values = values + (value,)  # noqa: RUF005
    return values


@inline
def tile_of(T, D: tl.constexpr, W: tl.constexpr, F: tl.constexpr):
    """What a program works on: planes, periods of depth and width, first and last strip period.

    The first three are [ROWS LANES]; on tiles of two axes the compiler would lay threads out along
    the wrong one. The first shifts - 1 periods of a tile only add to the sums of others.
    """
    i = tl.program_id(0)
    strip = i % T.strips
    i = i // T.strips
    tile_w = i % T.tiles_w
    i = i // T.tiles_w
    row, lane = rows_lanes(F)
    period_d = T.origin[0] + i % T.tiles_d * (F.depth - D.shifts + 1) + row % F.depth
    plane = i // T.tiles_d * (F.rows // F.depth) + row // F.depth
    period_w = T.origin[2] + tile_w * (F.lanes - W.shifts + 1) + lane
    begin = T.origin[1] + strip * T.strip
    return plane, period_d, period_w, begin, tl.minimum(begin + T.strip, T.last)


@inline
def rows_lanes(F: tl.constexpr):
    i = tl.arange(0, F.rows * F.lanes)
    return i // F.lanes, i % F.lanes


@inline
def within(n, size):
    return (n >= 0) & (n < size)


@inline
def members_within(n, count: tl.constexpr, size):
    found = ()
    for w in tl.static_range(count):
        found = found + ((n >= -w) & (n < size - w),)  # noqa: RUF005
    return found


@inline
def corner(pointer, A, tile, T, D: tl.constexpr, W: tl.constexpr):
    """Pointers [ROWS LANES] to the first samples linked with periods, in row 0 of the height.

    Also which planes exist, and which members of the windows along depth and width.
    """
    plane, period_d, period_w, _, _ = tile
    n_d = period_d * D.per + A.first[0]
    n_w = period_w * W.per + A.first[2]
    pointers = pointer + plane // T.channels * A.stride[0] + plane % T.channels * A.stride[1]
    pointers += n_d * A.stride[2] + n_w * A.stride[4]
    masks_d = members_within(n_d, D.window, A.size[0])
    masks_w = members_within(n_w, W.window, A.size[2])
    return pointers, plane < T.planes, masks_d, masks_w


@inline
def expand_row(corner, n_h, A, bias, weights_d, weights_w, zero, D: tl.constexpr, W: tl.constexpr):
    """A coarse row expanded along depth and width: [PD, PW, ROWS, LANES], as `zero`."""
    pointers, planes, masks_d, masks_w = corner
    pointers += n_h * A.stride[3]
    total = zero
    for v in tl.static_range(D.window):
        y = tl.full([1, zero.shape[1], zero.shape[2], zero.shape[3]], 0.0, zero.dtype)
        plane = planes & masks_d[v]
        for w in tl.static_range(W.window):
            mask = plane & masks_w[w]
            x = tl.load(pointers + w * A.stride[4], mask=mask, other=0.0).to(zero.dtype)
            if bias is not None:
                x = tl.where(mask, x + bias, 0.0)
            x = tl.reshape(x, [1, 1, zero.shape[2], zero.shape[3]])
            y = add_phases(y, weights_w, W, w, x)
        if D.filtered:
            total = add_phases(total, weights_d, D, v, y)
            pointers += A.stride[2]
        else:
            total = y
    return total


@inline
def load_rows(
    i, corner, A, bias, weights_d, weights_w, zero,
    D: tl.constexpr, H: tl.constexpr, W: tl.constexpr,
):  # fmt: skip
    """The expanded rows by which the window of period i goes beyond that of the period before."""
    rows = ()
    for w in tl.static_range(H.per):
        n_h = i * H.per + A.first[1] + (H.window - H.per + w)
        row = zero
        if within(n_h, A.size[1]):
            row = expand_row(corner, n_h, A, bias, weights_d, weights_w, zero, D, W)
        rows = rows + (row,)  # noqa: RUF005
    return rows


@inline
def expand(window, h, L: tl.constexpr, q: tl.constexpr):
    """Phase q of the height, from the window."""
    total = tl.full(window[0].shape, 0.0, window[0].dtype)
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
def moves(L: tl.constexpr, like, AXIS: tl.constexpr):
    """For s < shifts, which period is s before each, along axis 2 or 3 of a tile like this."""
    period = tl.arange(0, like.shape[AXIS])
    period = period[None, None, :, None] if AXIS == 2 else period[None, None, None, :]
    found = ()
    for s in tl.static_range(L.shifts):
        index = tl.broadcast_to(tl.maximum(period - s, 0), like.shape)
        found = found + (index,)  # noqa: RUF005
    return found


@inline
def reduce_tile(z, weights, moves, L: tl.constexpr, o: tl.constexpr, AXIS: tl.constexpr):
    """Coarse sample o of each period along axis 2 or 3; its phases, two axes before, become one."""
    total = tl.full(z.shape, 0.0, z.dtype)
    for s in tl.static_range(L.shifts):
        if s * L.per + o < L.window:
            moved = tl.gather(z, moves[s], AXIS) if s > 0 else z
            total = add_phases(total, weights, L, s * L.per + o, moved)
    return tl.sum(total, AXIS - 2, keep_dims=True)


@inline
def store_row(
    result, corner, n_h, A, z, weights_d, weights_w, moves_d, moves_w, total,
    SUM: tl.constexpr, D: tl.constexpr, W: tl.constexpr, F: tl.constexpr,
):  # fmt: skip
    """Write a row of a result from its sums z [PD, PW, ROWS, LANES]; if SUM, add it to `total`."""
    pointers, planes, masks_d, masks_w = corner
    pointers += n_h * A.stride[3]
    row, lane = rows_lanes(F)
    whole = (lane >= W.shifts - 1) & (row % F.depth >= D.shifts - 1)
    whole &= planes & within(n_h, A.size[1])
    for o_w in tl.static_range(W.per):
        y = reduce_tile(z, weights_w, moves_w, W, o_w, 3)
        for o_d in tl.static_range(D.per):
            x = reduce_tile(y, weights_d, moves_d, D, o_d, 2) if D.filtered else y
            x = tl.reshape(x, [F.rows * F.lanes])
            mask = whole & masks_d[o_d] & masks_w[o_w]
            if result is not None:
                p = pointers + (o_d * A.stride[2] + o_w * A.stride[4])
                tl.store(p, x.to(result.dtype.element_ty), mask=mask)
            if SUM:
                total += tl.where(mask, x, 0.0)
    return total
