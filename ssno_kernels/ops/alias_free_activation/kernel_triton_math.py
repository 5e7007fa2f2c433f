# SPDX-License-Identifier: MIT
"""The four nonlinearities of (A4) and their derivatives in Triton, on tiles of any shape.

ACTIVATION is the place in `arguments.ACTIVATIONS`.
"""

from __future__ import annotations

import triton.language as tl

from ..selective_scan.kernel_triton_math import inline, sigmoid

SQRT_HALF = tl.constexpr(0.7071067811865476)
DENSITY = tl.constexpr(0.3989422804014327)  # of the normal distribution at 0


@inline
def tanh(s):
    """To a few ulp for every s: a quotient of exponentials loses the digits of a small one."""
    x = tl.abs(s)
    p = tl.exp(-2 * x)
    if s.dtype == tl.float64:
        m = tl.where(p == 1, -2 * x, (p - 1) * (-2 * x) / tl.log(p))  # e^(-2 x) - 1
        m = tl.where(p < 0.25, p - 1, m)
        y = -m / (2 + m)
    else:  # up to 0.6 the continued fraction of Lambert
        q = x * x
        small = x * (q * (q + 105) + 945) / (q * (15 * q + 420) + 945)
        y = tl.where(x < 0.6, small, (1 - p) / (1 + p))
    return tl.where(s < 0, -y, y)


@inline
def distribution(s):
    """The normal distribution function."""
    return 0.5 * (1 + tl.erf(s * SQRT_HALF))


@inline
def activate(s, slope, gain, ACTIVATION: tl.constexpr):
    """gain act(s)"""
    if ACTIVATION == 0:
        return s * tl.where(s > 0, gain, gain * slope)
    elif ACTIVATION == 1:
        return gain * s * sigmoid(s)
    elif ACTIVATION == 2:
        return gain * s * distribution(s)
    else:
        return gain * tanh(s)


@inline
def derivative(s, slope, gain, ACTIVATION: tl.constexpr):
    """gain act'(s)"""
    if ACTIVATION == 0:
        return tl.where(s > 0, gain, gain * slope)
    elif ACTIVATION == 1:
        r = sigmoid(s)
        return gain * (r + r * (s - s * r))
    elif ACTIVATION == 2:
        return gain * (distribution(s) + s * tl.exp(-0.5 * s * s) * DENSITY)
    else:
        p = tl.exp(-2 * tl.abs(s))
        return gain * 4 * p / ((1 + p) * (1 + p))
