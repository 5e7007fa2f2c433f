# SPDX-License-Identifier: MIT
"""The arguments of the Triton kernels of the alias-free activation, in tuples.

Triton compiles anew for every integer in a tuple that is 1 or becomes or ceases to be a multiple of
16, so that integers come encoded as 4 n + 2.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any, NamedTuple

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
    full_from: int  # members of the window that are linked with every phase
    full_to: int
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

    size: tuple[int, ...]
    first: tuple[int, ...]
    stride: tuple[int, ...]


class Tiling(NamedTuple):
    """What a kernel is launched for: tiles of the result, by periods."""

    origin: tuple[int, ...]  # periods of the first tile's first row, first strip and first lane
    fine: tuple[int, ...]  # sizes of the upsampled signal
    last: int  # period of the height, + 1
    planes: int  # B C
    channels: int
    tiles_d: int
    tiles_w: int
    strips: int
    strip: int  # periods of a strip


def encoded(values: Any) -> Any:
    if isinstance(values, int):
        return 4 * values + 2
    each = map(encoded, values)
    return type(values)(*each) if hasattr(values, "_fields") else tuple(each)


@inline
def decoded(values):
    found = ()
    for i in tl.static_range(len(values)):
        found = found + (values[i] >> 2,)  # noqa: RUF005
    return found


@inline
def decoded_signal(A):
    stride = ()
    for i in tl.static_range(5):
        stride = stride + (tl.cast(A.stride[i] >> 2, tl.int64),)  # noqa: RUF005
    return Signal(decoded(A.size), decoded(A.first), stride)


@inline
def decoded_tiling(T):
    return Tiling(
        decoded(T.origin), decoded(T.fine), T.last >> 2, T.planes >> 2, T.channels >> 2,
        T.tiles_d >> 2, T.tiles_w >> 2, T.strips >> 2, T.strip >> 2,
    )  # fmt: skip


def split(value: float) -> tuple[float, float]:
    """A number in two parts that float32, which Triton passes numbers in, can hold."""
    high = ctypes.c_float(value).value
    return high, (value - high if math.isfinite(high) else 0.0)


@inline
def number(parts, dtype: tl.constexpr):
    """What `split` took apart."""
    return tl.full([], parts[0], dtype) + tl.full([], parts[1], dtype)
