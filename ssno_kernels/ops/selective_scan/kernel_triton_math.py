# SPDX-License-Identifier: MIT
"""Scalar maths of the Triton kernels, on tiles of any shape.

Complex numbers are pairs (re, im); for a real A the second of each pair is never looked at. A is
scaled once, real part by log2 e and imaginary part by 1 / (2 pi), so that exp(dt A) is an exp2 and
the cosine and sine of a number of turns.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
TURN = tl.constexpr(6.283185307179586)
INTERPRETED = os.environ.get("TRITON_INTERPRET", "0") == "1"
PTX = tl.constexpr(not INTERPRETED and torch.version.hip is None and not torch.xpu.is_available())

# The interpreter patches the whole of triton.language anew at every call of a jitted function,
# which costs more than what these small functions do; it calls plain functions just as well.
inline = (lambda function: function) if INTERPRETED else triton.jit


@inline
def exp2(x):
    if PTX and x.dtype == tl.float32:  # tl.exp2 spends three more instructions on denormals
        return tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [x], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        return tl.exp2(x)


@inline
def widen(x, dtype: tl.constexpr):
    """x in the state's dtype.

    By assembly where the compiler, to convert layouts of 16 instead of 32 bits, would repeat all
    that is computed from x, once in each layout.
    """
    if PTX and x.dtype == tl.bfloat16:
        return tl.inline_asm_elementwise(
            "shl.b32 $0, $2, 16; and.b32 $1, $2, 0xffff0000;", "=r,=r,r", [x],
            dtype=tl.float32, is_pure=True, pack=2,
        )  # fmt: skip
    elif PTX and x.dtype == tl.float16:
        return tl.inline_asm_elementwise(
            "{.reg .b16 a, b; mov.b32 {a, b}, $2; cvt.f32.f16 $0, a; cvt.f32.f16 $1, b;}",
            "=r,=r,r", [x], dtype=tl.float32, is_pure=True, pack=2,
        )  # fmt: skip
    else:
        return x.to(dtype)


@inline
def sigmoid(x):
    return 1 / (1 + exp2(x * -LOG2E))


@inline
def softplus(s):
    """log(1 + exp(s)), linear above 20, and its derivative, to a few ulp for every s."""
    p = exp2(tl.abs(s) * -LOG2E)
    if s.dtype == tl.float64:
        w = 1 + p
        log1p = tl.where(w == 1, p, tl.log(w) * p / (w - 1))  # exact where w is rounded
    else:  # 2 artanh(r) as its series; r <= 1/3
        r = p / (2 + p)
        q = r * r
        series = q * (1 / 13) + 1 / 11
        series = series * q + 1 / 9
        series = series * q + 1 / 7
        series = series * q + 1 / 5
        series = series * q + 1 / 3
        log1p = 2 * (r + r * q * series)
    slope = tl.where(s >= 0, 1.0, p) / (1 + p)
    return tl.where(s > 20, s, tl.maximum(s, 0.0) + log1p), tl.where(s > 20, 1.0, slope)


@inline
def cos_sin(x):
    """Cosine and sine of x turns."""
    if x.dtype == tl.float64:
        r = (x - tl.floor(x + 0.5)) * TURN
        return tl.cos(r), tl.sin(r)
    else:
        quarters = tl.floor(4 * x + 0.5)
        r = (x - 0.25 * quarters) * TURN  # the difference is exact and at most 1/8
        q = r * r
        s = q * (1 / 362880) - 1 / 5040
        s = s * q + 1 / 120
        s = s * q - 1 / 6
        s = r + r * q * s
        c = q * (1 / 40320) - 1 / 720
        c = c * q + 1 / 24
        c = c * q - 0.5
        c = c * q + 1
        i = quarters.to(tl.int32)
        odd = (i & 1) == 1
        cosine = tl.where(odd, s, c)
        sine = tl.where(odd, c, s)
        return tl.where(((i + 1) & 2) == 2, -cosine, cosine), tl.where((i & 2) == 2, -sine, sine)


@inline
def decay(A_r, A_i, dt, is_complex: tl.constexpr):
    """exp(dt A) of the scaled A."""
    r = exp2(A_r * dt)
    if is_complex:
        c, s = cos_sin(A_i * dt)
        return r * c, r * s
    else:
        return r, r


@inline
def multiply(x_r, x_i, y_r, y_i, is_complex: tl.constexpr):
    """x y"""
    if is_complex:
        return x_r * y_r - x_i * y_i, x_r * y_i + x_i * y_r
    else:
        return x_r * y_r, y_i


@inline
def multiply_conj(x_r, x_i, y_r, y_i, is_complex: tl.constexpr):
    """conj(x) y"""
    if is_complex:
        return x_r * y_r + x_i * y_i, x_r * y_i - x_i * y_r
    else:
        return x_r * y_r, y_i
