# SPDX-License-Identifier: MIT
"""`damped_conv` in PyTorch operations: any device, differentiable to any order and in any mode.

The swept axis is cut into chunks of T samples, T about the square root of L or 2 N. Inside a chunk
the convolution is a Toeplitz T x T matrix, shared by all lines of a channel. What enters a chunk
from before it is its N states: found from each chunk's own sums by doubling (Hillis and Steele
1986), read out by another matrix product. So neither k (H, L) nor an array (H, N, L) is formed.
Where a compiler is to take any L, chunks and rounds of doubling do not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..memory import in_order, memory_order
from ..symbols import is_symbol
from .arguments import Arguments, canonical, final_state_of, state_dtype


def damped_conv(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """(out, final_state) of the public docstring from its checked arguments."""
    out, state = convolve(*canonical(arguments))
    return out, final_state_of(state)


def convolve(
    u: Tensor, rate: Tensor, coeff: Tensor, D: Tensor | None, initial_state: Tensor | None,
    direction: int, periodic: bool, dim: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same from and to canonical arguments (see `arguments.Canonical`)."""
    lines = u.to(state_dtype(u.dtype)).movedim((1, dim), (0, -1))
    x = lines.flatten(1, -2)  # (H, lines, L)
    # e^-1000 is 0 as e^-inf is, whose product with lag 0 would be NaN
    rate = torch.complex(rate[..., 0].clamp_min(-1000), rate[..., 1])
    coeff = torch.complex(coeff[..., 0], coeff[..., 1])
    y = torch.zeros_like(x[..., :1]) if D is None else D[:, None, None] * x
    states = []
    for s in range(rate.shape[0]):
        backward = direction == 1 or s == 1
        start = None
        if initial_state is not None:
            start = torch.complex(initial_state[s, ..., 0], initial_state[s, ..., 1])
            start = start.movedim(1, 0).flatten(1, -2)  # (H, lines, N)
        y_s, state = _sweep(x.flip(-1) if backward else x, rate[s], coeff[s], start, periodic)
        y = y + (y_s.flip(-1) if backward else y_s)
        states.append(state.unflatten(1, lines.shape[1:-1]).movedim(0, 1))
    out = y.unflatten(1, lines.shape[1:-1]).movedim((0, -1), (1, dim)).to(u.dtype)
    as_u = memory_order(torch.empty_like(u, device="meta").stride())
    return in_order(out, as_u), torch.view_as_real(torch.stack(states))


def chunk_length(length: int, states: int) -> int:
    """A power of two T with 2 N <= T and L <= T^2, or all of a line that is shorter.

    For a length that is a symbol, a power of two with 64 <= T and 2 N <= T.
    """
    any_length = is_symbol(length)
    T = 64 if any_length else 16
    while 2 * states > T or (not any_length and length > T * T):
        T *= 2
    return T if any_length else min(length, T)


def _sweep(
    x: Tensor, rate: Tensor, coeff: Tensor, start: Tensor | None, periodic: bool
) -> tuple[Tensor, Tensor]:
    """(D2), (D3) and (D5) along the last axis of x (H, lines, L): y, and the state after it.

    The powers of lambda are formed in float64 and rounded once.
    """
    length, dtype = x.shape[-1], coeff.dtype
    T = chunk_length(length, rate.shape[-1])
    spare = 2 if is_symbol(length) else 0  # chunks past the end: 1 and 2 are special sizes
    last = (length - 1) // T  # the chunk of the last sample
    chunks = last + 1 + spare

    def powers(exponents: Tensor) -> Tensor:
        return torch.exp(rate[..., None] * exponents)

    t = torch.arange(T, device=x.device)
    small = powers(t)  # lambda^0 ... lambda^(T-1), (H, N, T)
    wide = coeff.to(small.dtype)[..., None]
    k = 2 * (wide * small).real.sum(1).to(x.dtype)
    # row s is k moved on by s; an index would be shorter, but its gradient adds in any order
    toeplitz = pad(k, (T - 1, 0)).unfold(-1, T, 1).flip(1)

    pieces = pad(x, (0, chunks * T - length)).unflatten(-1, (chunks, T))
    y = pieces.flatten(1, 2) @ toeplitz
    rest = length - last * T  # samples in the last chunk
    after = powers((rest - 1 - t).clamp_min(0)).masked_fill(t >= rest, 0)
    state = _project(pieces[:, :, -1 - spare], after.to(dtype))
    if spare or chunks > 1:
        ends = _project(pieces.flatten(1, 2), small.flip(-1).to(dtype))
        ends = ends.unflatten(1, (x.shape[1], chunks))
        ends = _accumulate(ends, lambda m: torch.exp(m * T * rate).to(dtype))
        entering = _later(ends, 1)
        state = state + torch.exp(rest * rate).to(dtype)[:, None] * entering[:, :, -1 - spare]
    else:
        entering = torch.zeros_like(state)[:, :, None]
    if periodic:  # (D5)
        start = state / -torch.expm1(length * rate).to(dtype)[:, None]
    if start is not None:
        faded = powers(T * torch.arange(chunks, device=x.device)).to(dtype).mT
        entering = entering + faded[:, None] * start[:, :, None]
        lam_L = torch.exp(length * rate).to(dtype)[:, None]
        state = start if periodic else state + lam_L * start
    read = 2 * (wide * powers(t + 1)).to(dtype)
    read = torch.stack([read.real, -read.imag], dim=2).flatten(1, 2)  # (H, 2 N, T)
    y = y + torch.view_as_real(entering).flatten(-2).flatten(1, 2) @ read
    y = y.unflatten(1, (x.shape[1], chunks)).flatten(-2)
    return y[..., :length], state


def _project(x: Tensor, weights: Tensor) -> Tensor:
    """sum_j weights_j x_j of x (H, rows, T): (H, rows, N), as one real matrix product."""
    weights = torch.view_as_real(weights.mT).flatten(-2)  # (H, T, 2 N)
    return torch.view_as_complex((x @ weights).unflatten(-1, (-1, 2)).contiguous())


def _accumulate(h: Tensor, decay: Callable[[int], Tensor]) -> Tensor:
    """sum_m decay(m) h_{c-m} for every chunk c of h (H, lines, chunks, N)."""
    m, least = 1, 4096 if is_symbol(h.shape[2]) else 0  # rounds that are not asked for
    while m < least or m < h.shape[2]:
        h = h + decay(m)[:, None, None] * _later(h, m)
        m *= 2
    return h


def _later(h: Tensor, m: int) -> Tensor:
    """h of m chunks before, 0 where there is none"""
    return pad(h, (0, 0, m, 0))[:, :, : h.shape[2]]
