# SPDX-License-Identifier: MIT
"""The tables of a channel, made in float64 and rounded once: powers of lambda, and the first lags.

A row of a table holds one number of every mode, real parts in one plane and imaginary parts in
another. With T steps to a chunk and C = 2^K chunks to a tile, the rows are

    0 ... T             lambda^e of e = row
    T + 1 ... T + K-1   lambda^(2^k T) of k = row - T
    T + K               1 / (1 - lambda^L), where periodic
    T + K + 1 + e       2 coeff lambda^(e + 1) of e = 0 ... T-1

and `lags` (H, 2 T) holds the sum over the sweeps of k[d], D included, at T-1 + d for -T < d < T.
None of them grows with L.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .kernel_triton_math import as_turns, decayed, inline, multiply, power


@inline
def row_of_gains(F: tl.constexpr):
    return F.steps + F.doublings + 1


@inline
def table_of(tables, sweep, h, channels, blocks, F: tl.constexpr):
    """Of a sweep of a channel: where it begins, the length of a row and the size of a plane."""
    width = blocks * F.block_n
    plane = (2 * F.steps + F.doublings + 1) * width
    return tables + (sweep * channels + h).to(tl.int64) * (2 * plane), width, plane


@inline
def load_table(table, row, n):
    """Real and imaginary parts of modes n of a row or, of a column of rows, a matrix."""
    first, width, plane = table
    p = first + row * width + n
    return tl.load(p), tl.load(p + plane)


@inline
def load_rate(rate, sweep, h, n, channels, modes):
    """exp's argument in float64: real part, and imaginary part in turns."""
    p = rate + ((sweep * channels + h).to(tl.int64) * modes + n) * 2
    r = tl.load(p, mask=n < modes, other=0.0)
    r = tl.where(r < -1e300, -1e300, r)  # an infinite damping times 0 steps; leaves NaN
    return r, as_turns(tl.load(p + 1, mask=n < modes, other=0.0))


@inline
def store_table(table, row, n, z_r, z_i, mask=None):
    first, width, plane = table
    p = first + row * width + n
    tl.store(p, z_r, mask=mask)
    tl.store(p + plane, z_i, mask=mask)


@inline
def powers_below(z_r, z_i, e, F: tl.constexpr):
    """lambda^e for a column of e < T and a row of lambdas, by the bits of e."""
    r = e * 0 + tl.zeros_like(z_r) + 1
    i = r * 0
    for k in tl.static_range(F.bits):
        more_r, more_i = multiply(r, i, z_r, z_i)
        taken = ((e >> k) & 1) == 1
        r, i = tl.where(taken, more_r, r), tl.where(taken, more_i, i)
        z_r, z_i = multiply(z_r, z_i, z_r, z_i)
    return r, i


@inline
def fill_block(
    table, rate, coeff, sweep, h, n, length, channels, modes, F: tl.constexpr
):  # fmt: skip
    """Write the rows of a block of modes; its share of the lags 0 ... T-1."""
    exists = (n < modes)[None, :]
    rate_r, turns = load_rate(rate, sweep, h, n, channels, modes)
    k = tl.arange(0, 16)[:, None]  # rows T ... T + K-1, and lambda itself
    steps = tl.where(k < F.doublings, F.steps << k, 1).to(tl.float64)
    d_r, d_i = power(rate_r[None, :], turns[None, :], steps)
    z_r = tl.sum(tl.where(k == 15, d_r, 0.0), 0)[None, :]
    z_i = tl.sum(tl.where(k == 15, d_i, 0.0), 0)[None, :]
    d_r, d_i = tl.where(exists, d_r, 0.0), tl.where(exists, d_i, 0.0)
    store_table(table, F.steps + k, n[None, :], d_r, d_i, k < F.doublings)
    if F.periodic:
        q_r, q_i = decayed(rate_r, turns, length.to(tl.float64))
        norm = tl.where(n < modes, q_r * q_r + q_i * q_i, 1.0)
        store_table(table, F.steps + F.doublings, n, q_r / norm, -q_i / norm)

    e = tl.arange(0, F.steps)[:, None]
    a_r, a_i = powers_below(z_r, z_i, e, F)
    a_r, a_i = tl.where(exists, a_r, 0.0), tl.where(exists, a_i, 0.0)
    store_table(table, e, n[None, :], a_r, a_i)
    q = coeff + ((sweep * channels + h).to(tl.int64) * modes + n) * 2
    c_r = 2 * tl.load(q, mask=n < modes, other=0.0).to(tl.float64)[None, :]
    c_i = 2 * tl.load(q + 1, mask=n < modes, other=0.0).to(tl.float64)[None, :]
    g_r, g_i = multiply(c_r, c_i, a_r, a_i)
    lag = tl.sum(g_r, 1)
    g_r, g_i = multiply(g_r, g_i, z_r, z_i)
    store_table(table, row_of_gains(F) + e, n[None, :], g_r, g_i)
    return lag


@triton.jit(do_not_specialize=["length", "channels", "modes", "blocks"])
def damped_conv_tables_kernel(
    tables, lags, rate, coeff, D, length, channels, modes, blocks, F: tl.constexpr
):
    """All tables of one channel."""
    h = tl.program_id(0)
    e = tl.arange(0, F.steps)
    later = tl.zeros([F.steps], tl.float64)  # lags 0 ... T-1 of the sweep that starts at t = 0
    earlier = later
    for sweep in tl.static_range(F.sweeps):
        table = table_of(tables, sweep, h, channels, blocks, F)
        for b in range(0, blocks):
            n = b * F.block_n + tl.arange(0, F.block_n)
            lag = fill_block(table, rate, coeff, sweep, h, n, length, channels, modes, F)
            if F.forward == sweep:
                later += lag
            else:
                earlier += lag
    zero = tl.sum(tl.where(e == 0, later + earlier, 0.0))
    if D is not None:
        zero += tl.load(D + h).to(tl.float64)
    p = lags + h.to(tl.int64) * (2 * F.steps) + F.steps - 1
    tl.store(p + e, tl.where(e == 0, zero, later))
    tl.store(p - e, earlier, mask=e > 0)
