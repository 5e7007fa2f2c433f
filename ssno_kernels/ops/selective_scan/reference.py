# SPDX-License-Identifier: MIT
"""The specification of `selective_scan`: an explicit loop over time. Speed is not its aim."""

from __future__ import annotations

import torch
from torch import Tensor


def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None,
    delta_bias: Tensor | None, delta_weight: Tensor | None, initial_state: Tensor | None,
    delta_softplus: bool, reverse: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(S1) to (S5) of the public docstring, step by step; returns (out, final_state)."""
    batch, channels, length = u.shape
    real = torch.float64 if u.dtype == torch.float64 else torch.float32
    state_dtype = torch.promote_types(A.dtype, real)
    x = u.to(real)
    step = delta.to(real)
    if delta_weight is not None:  # (S1)
        step = torch.einsum("dr,brl->bdl", delta_weight.to(real), step)
    if delta_bias is not None:
        step = step + delta_bias.to(real)[:, None]
    if delta_softplus:  # (S2)
        step = torch.where(step > 20, step, torch.log1p(torch.exp(step.clamp(max=20))))

    def at(M: Tensor, t: int) -> Tensor:
        """B or C at time t as (1 or batch, channels, N)."""
        if M.dim() == 2:
            return M.to(state_dtype)[None]
        M = M[:, None] if M.dim() == 3 else M
        if A.is_complex():
            M_t = torch.complex(M[..., 2 * t].to(real), M[..., 2 * t + 1].to(real))
        else:
            M_t = M[..., t].to(real)
        return M_t.repeat_interleave(channels // M.shape[1], dim=1)

    h = u.new_zeros(batch, channels, A.shape[1], dtype=state_dtype)
    if initial_state is not None:
        h = h + initial_state
    y: list[Tensor] = [u.new_empty(0)] * length
    for t in reversed(range(length)) if reverse else range(length):
        dt = step[:, :, t, None]
        h = torch.exp(dt * A) * h + dt * at(B, t) * x[:, :, t, None]  # (S3)
        y_t = (at(C, t) * h).sum(-1)  # (S4)
        y[t] = 2 * y_t.real if A.is_complex() else y_t
    out = torch.stack(y, dim=-1)
    if D is not None:
        out = out + D.to(real)[:, None] * x
    if z is not None:  # (S5)
        out = out * torch.nn.functional.silu(z.to(real))
    return out.to(u.dtype), h
