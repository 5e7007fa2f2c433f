# SPDX-License-Identifier: MIT
"""What the three compiled extensions share: a forward that keeps chunk states, and a backward."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import softplus

from ..ops.selective_scan.arguments import COMPLEX, state_dtype
from .scan import scan

CHUNK = 2048
"""Steps between the states that a forward returns."""


@torch.no_grad()
def forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """(out without a gate, x): x (B, D, ceil(L / 2048), 2 N) holds, at the end of each chunk,

    the product of all factors exp(dt A) so far, and the state, in turns.
    """
    delta = _for_every_channel(delta, u)
    delta_bias = None if delta_bias is None else _for_every_channel(delta_bias, u)
    scan_chunk = partial(scan, return_last_state=True, out_dtype=out_dtype)
    real = state_dtype(u.dtype)
    A = A.to(COMPLEX[real] if A.is_complex() else real)
    steps = 2 if A.is_complex() else 1  # entries of a variable B or C a step
    state: Tensor | None = None
    total = A.real.new_zeros(u.shape[:2])
    outs, x = [], []
    for first in range(0, u.shape[-1], CHUNK):
        part, wide = slice(first, first + CHUNK), slice(steps * first, steps * (first + CHUNK))
        B_k, C_k = (M if M.dim() == 2 else M[..., wide] for M in (B, C))
        out, state = scan_chunk(
            u[..., part], delta[..., part], A, B_k, C_k, D, None, delta_bias, delta_softplus,
            initial_state=state,
        )  # fmt: skip
        assert state is not None
        dt = delta[..., part].to(real)
        dt = dt if delta_bias is None else dt + delta_bias.to(real)[:, None]
        total = total + (softplus(dt) if delta_softplus else dt).sum(-1)
        x.append(torch.stack([torch.exp(total[..., None] * A), state], dim=-1).flatten(-2))
        outs.append(out)
    return outs[0] if len(outs) == 1 else torch.cat(outs, dim=-1), torch.stack(x, dim=2)


def backward(
    inputs: tuple[
        Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor | None, Tensor | None
    ],
    dout: Tensor,
    delta_softplus: bool,
    out_dtype: torch.dtype | None = None,
) -> tuple[Tensor, list[Tensor | None]]:
    """(out, the cotangents) of u, delta, A, B, C, D, z and delta_bias; None where one is None.

    The originals read their states from what the forward returned; here it runs once more.
    """
    u, delta, A, B, C = (t.detach().requires_grad_() for t in inputs[:5])
    D, z, delta_bias = (t if t is None else t.detach().requires_grad_() for t in inputs[5:])
    with torch.enable_grad():
        out, _ = scan(
            u, _for_every_channel(delta, u), A, B, C, D, z,
            None if delta_bias is None else _for_every_channel(delta_bias, u), delta_softplus,
            out_dtype=out_dtype,
        )  # fmt: skip
    leaves = [u, delta, A, B, C, D, z, delta_bias]
    given = [t for t in leaves if t is not None]
    cotangents = iter(torch.autograd.grad(out, given, dout.to(out.dtype)))
    return out.detach(), [t if t is None else next(cotangents) for t in leaves]


def _for_every_channel(x: Tensor, u: Tensor) -> Tensor:
    """delta (B, D', L) or delta_bias (D',) whose D' channels serve D / D' of u's each, spread."""
    axis = 1 if x.dim() == 3 else 0
    channels, given = u.shape[1], x.shape[axis]
    if given == channels or given == 0 or channels % given:
        return x  # the scan says what does not fit
    return x.repeat_interleave(channels // given, dim=axis)
