# SPDX-License-Identifier: MIT
"""`selective_scan` in PyTorch operations: any device, differentiable to any order and in any mode.

The sequence is cut into chunks of 32 steps. Inside a chunk the recurrence is solved by doubling
(Hillis and Steele 1986): after round k every position holds the affine map of the 2^k steps that
end there, so 5 rounds of elementwise operations replace 32 steps. Chunks follow one another, and
only one's states are there at a time. Where a compiler is to take any length, it cannot count them:
all are solved side by side, and the recurrence over their ends in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat

import torch
from torch import Tensor
from torch.nn.functional import pad, silu, softplus

from ..symbols import is_symbol
from .arguments import Arguments, canonical, state_dtype

CHUNK = 32


def selective_scan(arguments: Arguments, starts: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """(out, final_state) of the public docstring from its checked arguments.

    `starts` (B or 1, L) says at which steps of the sweep there is no state before.
    """
    out, h = scan(*canonical(arguments), starts)
    return out, torch.view_as_complex(h.contiguous()) if h.dim() == 4 else h


def scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, delta_weight: Tensor | None, initial_state: Tensor | None,
    delta_softplus: bool, reverse: bool, starts: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The same from and to canonical arguments (see `arguments.canonical`)."""
    real = state_dtype(u.dtype)
    is_complex = A.dim() == 3
    x, step = u.to(real), delta.to(real)
    if delta_weight is not None:
        step = delta_weight @ step
    if delta_bias is not None:
        step = step + delta_bias[:, None]
    if delta_softplus:
        step = softplus(step)
    A = torch.complex(A[..., 0], A[..., 1]) if is_complex else A
    if initial_state is None:
        h = A.new_zeros(u.shape[0], *A.shape)  # not left out: a NaN in A must meet it at step one
    elif is_complex:
        h = torch.complex(initial_state[..., 0], initial_state[..., 1])
    else:
        h = initial_state

    def chunks(M: Tensor) -> Iterable[Tensor]:
        """B or C chunk after chunk, as (B or 1, D, N, T or 1)."""
        if M.dim() < 4:
            constant = torch.complex(M[..., 0], M[..., 1]) if is_complex else M
            return repeat(constant[None, :, :, None])
        return (window(piece.to(real)) for piece in M.split(size, 3))

    def window(M: Tensor) -> Tensor:
        M = torch.complex(M[..., 0], M[..., 1]) if is_complex else M
        return M.repeat_interleave(u.shape[1] // M.shape[1], dim=1)

    if reverse:
        x, step = x.flip(-1), step.flip(-1)
        B, C = (M.flip(3) if M.dim() >= 4 else M for M in (B, C))
    length = x.shape[-1]
    size, solve = (length, _side_by_side) if is_symbol(length) else (CHUNK, _chunk)
    ys = []
    # split, not sliced: the gradient of a slice is as long as the whole sequence
    x_chunks, dt_chunks = (v[:, :, None].split(size, -1) for v in (x, step))
    fresh = repeat(None) if starts is None else starts[:, None, None].split(size, -1)
    for x_k, dt, B_k, C_k, fresh_k in zip(
        x_chunks, dt_chunks, chunks(B), chunks(C), fresh, strict=False
    ):
        a = torch.exp(dt * A[:, :, None])
        states = solve(a, dt * x_k * B_k, h, fresh_k)
        h = states[..., -1]
        y = (C_k * states).sum(2)
        ys.append(2 * y.real if is_complex else y)
    y = torch.cat(ys, dim=-1)
    if D is not None:
        y = y + D[:, None] * x
    if reverse:
        y = y.flip(-1)
    if z is not None:
        y = y * silu(z.to(real))
    y = y.to(u.dtype)
    if not u.is_contiguous() and u.transpose(1, 2).is_contiguous():
        y = y.transpose(1, 2).contiguous().transpose(1, 2)
    return y, torch.view_as_real(h) if is_complex else h


def _chunk(a: Tensor, b: Tensor, h: Tensor, fresh: Tensor | None) -> Tensor:
    """All states h_t = a_t h_{t-1} + b_t along the last axis, h_{-1} = h; h_t = b_t where fresh."""
    h = _unless(fresh, h[..., None])
    b = torch.cat([b[..., :1] + a[..., :1] * h, b[..., 1:]], dim=-1)
    return _double(a, b, fresh)[1]


def _side_by_side(a: Tensor, b: Tensor, h: Tensor, fresh: Tensor | None) -> Tensor:
    """The same for a length that is a symbol, of which nothing is asked but whether it is huge."""
    levels = 4
    while (CHUNK - 3) * CHUNK ** (levels - 1) < a.shape[-1]:
        levels += 1
    return _level(a, b, h, fresh, levels)


def _level(a: Tensor, b: Tensor, h: Tensor, fresh: Tensor | None, levels: int) -> Tensor:
    """The same: chunks, the recurrence over their ends one level down, and the states between."""
    length = a.shape[-1]
    chunks = length // CHUNK + 3 if levels > 1 else 1  # 1, or 1 less than it, are special sizes

    def cut(x: Tensor) -> Tensor:
        pieces: Tensor = pad(x, (0, chunks * CHUNK - length)).unflatten(-1, (chunks, CHUNK))
        return pieces

    a, b, fresh = _double(cut(a), cut(b), None if fresh is None else cut(fresh))
    before = h[..., None]
    if levels > 1:
        fresh_ends = None if fresh is None else fresh[..., -1]
        ends = _level(a[..., -1], b[..., -1], h, fresh_ends, levels - 1)
        before = torch.cat([before, ends[..., :-1]], dim=-1)
    states = b + a * _unless(fresh, before[..., None].expand_as(a))
    return states.flatten(-2)[..., :length]


def _double(
    a: Tensor, b: Tensor, fresh: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:  # fmt: skip
    """The map h -> a h + b of all steps up to each one, from their own; whether it forgets h."""
    k = 1
    while k < a.shape[-1]:
        late = None if fresh is None else fresh[..., k:]
        b = torch.cat([b[..., :k], b[..., k:] + a[..., k:] * _unless(late, b[..., :-k])], dim=-1)
        a = torch.cat([a[..., :k], a[..., k:] * _unless(late, a[..., :-k])], dim=-1)
        if fresh is not None:
            fresh = torch.cat([fresh[..., :k], fresh[..., k:] | fresh[..., :-k]], dim=-1)
        k *= 2
    return a, b, fresh


def _unless(fresh: Tensor | None, x: Tensor) -> Tensor:
    """x, but 0 where fresh begins along the last axis; a factor of 0 would not stop a NaN."""
    return x if fresh is None else x.masked_fill(fresh[..., : x.shape[-1]], 0)
