# SPDX-License-Identifier: MIT
"""The specification of `damped_conv`: an explicit loop over time. Speed is not its aim."""

from __future__ import annotations

import torch
from torch import Tensor


def damped_conv(
    u: Tensor, damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None,
    step: float | Tensor, initial_state: Tensor | None, direction: str, boundary: str, dim: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(D1) to (D5) of the public docstring, step by step in float64; returns (out, final_state)."""
    x = u.double().movedim(dim, -1)  # (B, H, *others, L)
    others = [1] * (x.dim() - 3)
    if isinstance(step, Tensor):
        step = step.double()
        step = step[:, None] if step.dim() else step
    rate = -damping.double() * step + 1j * (frequency.double() * step)  # (D1)
    sweeps = ("forward", "backward") if direction == "both" else (direction,)

    def of_sweep(parameter: Tensor, s: int) -> Tensor:
        """(H, N) or (2, H, N) as (H, 1, ..., 1, N)."""
        parameter = parameter[s] if parameter.dim() == 3 else parameter
        return parameter.reshape(parameter.shape[0], *others, parameter.shape[1])

    y: list[Tensor] = list((torch.zeros_like(x) if D is None else _skip(D, x)).unbind(-1))
    final_states = []
    for s, sweep in enumerate(sweeps):
        exponent, c = of_sweep(rate, s), of_sweep(coeff.to(torch.complex128), s)
        lam = torch.exp(exponent)
        samples = list(enumerate(x.unbind(-1)))
        if sweep == "backward":
            samples.reverse()
        h = torch.zeros_like(x[..., :1]) * lam  # (B, H, *others, N)
        if initial_state is not None:
            h = initial_state[s] if direction == "both" else initial_state
            h = h.to(torch.complex128)
        if boundary == "periodic":  # (D5)
            for _, u_t in samples:
                h = lam * h + u_t[..., None]
            h = h / -torch.expm1(len(samples) * exponent)
        for t, u_t in samples:
            h = lam * h + u_t[..., None]  # (D2)
            y[t] = y[t] + 2 * (c * h).sum(-1).real  # (D3), (D4)
        final_states.append(h)
    out = torch.stack(y, dim=-1).movedim(-1, dim).to(u.dtype)
    state = torch.stack(final_states) if direction == "both" else final_states[0]
    return out, state.to(coeff.dtype)


def _skip(D: Tensor, x: Tensor) -> Tensor:
    return D.double().reshape(-1, *[1] * (x.dim() - 2)) * x
