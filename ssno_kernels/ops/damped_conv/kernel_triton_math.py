# SPDX-License-Identifier: MIT
"""Scalar maths of the Triton kernels of `damped_conv`: complex numbers are pairs (re, im)."""

from __future__ import annotations

import triton.language as tl

from ..selective_scan.kernel_triton_math import inline, widen

__all__ = ["as_turns", "cos_sin", "decayed", "inline", "multiply", "power", "widen"]

TURN = tl.constexpr(6.283185307179586)


@inline
def multiply(x_r, x_i, y_r, y_i):
    """x y"""
    return x_r * y_r - x_i * y_i, x_r * y_i + x_i * y_r


@inline
def as_turns(phase):
    """A phase per step in turns, less whole ones: steps are whole numbers, so these do not count.

    Its rounding is that of a number below 1/2, and so all of a long power's phase that can be kept.
    """
    turns = phase * (1 / TURN)
    return turns - tl.floor(turns + 0.5)


@inline
def cos_sin(turns):
    """Cosine and sine of float64 turns, to an ulp; libdevice's would take stack memory."""
    quarters = tl.floor(4 * turns + 0.5)
    r = (turns - 0.25 * quarters) * TURN  # at most pi / 4
    q = r * r
    c = tl.zeros_like(r) + 1
    s = c
    for m in tl.static_range(16, 0, -2):
        c = 1 - c * q * (1 / ((m - 1) * m))
        s = 1 - s * q * (1 / (m * (m + 1)))
    s *= r
    i = quarters.to(tl.int32)
    odd = (i & 1) == 1
    cosine = tl.where(odd, s, c)
    sine = tl.where(odd, c, s)
    return tl.where(((i + 1) & 2) == 2, -cosine, cosine), tl.where((i & 2) == 2, -sine, sine)


@inline
def power(rate_r, turns, steps):
    """exp(steps rate), in float64; rate's imaginary part in turns."""
    magnitude = tl.exp(rate_r * steps)
    c, s = cos_sin(turns * steps)
    return magnitude * c, magnitude * s


@inline
def decayed(rate_r, turns, steps):
    """1 - exp(steps rate), in float64, without cancellation."""
    a = rate_r * steps
    magnitude = tl.exp(a)
    # exp(a) - 1: exact where exp(a) is rounded (Kahan)
    logarithm = tl.log(tl.where(magnitude == 1, 2.0, magnitude))
    exact = tl.where(magnitude == 1, a, (magnitude - 1) * a / logarithm)
    less = tl.where(a < -1, magnitude - 1, exact)
    _, half = cos_sin(0.5 * (turns * steps))
    _, s = cos_sin(turns * steps)
    return 2 * half * half * magnitude - less, -magnitude * s
