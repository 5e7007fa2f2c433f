# SPDX-License-Identifier: MIT
"""mamba_ssm's step of the scan for generation, which updates the state in place."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..ops.selective_scan import selective_scan, selective_scan_step
from ..ops.selective_scan.arguments import state_dtype

__all__ = ["selective_state_update", "selective_state_update_ref"]


def selective_state_update(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
    state_batch_indices: Tensor | None = None,
) -> Tensor:
    """One step of the scan; `state` is updated in place. Returns out, as x.

    Args:
        state: (B, D, N) or, with heads, (B, H, D, N); any dtype.
        x, dt, z: (B, D) or (B, H, D).
        A: (D, N) or (H, D, N).
        B, C: (B, N) or (B, G, N): head h reads group h // (H / G).
        D, dt_bias: (D,) or (H, D).
        state_batch_indices: (B,) integers: the row of `state` that is each sample's; where
            negative, out is 0 and no state is touched.
    """
    rows: Tensor | slice
    if state_batch_indices is None:
        rows, kept = slice(None), None
    else:
        kept = state_batch_indices >= 0
        rows = state_batch_indices[kept].long()
        x_all, (x, dt, B, C) = x, (t[kept] for t in (x, dt, B, C))
        z = z if z is None else z[kept]
    before = state[rows].detach()
    if torch.is_grad_enabled():
        before = before.clone()  # a derivative reads it after the update in place
    out, new_state = _update(
        selective_scan_step, before, x, dt, A, B, C, D, z, dt_bias, dt_softplus
    )
    with torch.no_grad():
        state[rows] = new_state.to(state.dtype)
    if kept is None:
        return out
    return torch.zeros_like(x_all).index_put((kept,), out)


def selective_state_update_ref(
    state: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    dt_softplus: bool = False,
) -> Tensor:
    """`selective_state_update` by the scan's loop over time, of one step."""
    before = state.detach().clone()
    out, new_state = _update(_reference, before, x, dt, A, B, C, D, z, dt_bias, dt_softplus)
    with torch.no_grad():
        state.copy_(new_state)
    return out


def _update(
    step: Callable[..., tuple[Tensor, Tensor]], state: Tensor, x: Tensor, dt: Tensor, A: Tensor,
    B: Tensor, C: Tensor, D: Tensor | None, z: Tensor | None, dt_bias: Tensor | None,
    dt_softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The step in the state's precision, heads and channels as one axis: (out, new state)."""
    real = state_dtype(torch.promote_types(x.dtype, state.dtype))

    def flat(t: Tensor | None, first: int, last: int) -> Tensor | None:
        """Heads and channels, the axes first to last if there are heads, as one."""
        return t if t is None else (t.flatten(first, last) if t.dim() > last else t).to(real)

    def grouped(M: Tensor) -> Tensor:
        return (M if M.dim() == 3 else M[:, None]).to(real)

    out, new_state = step(
        flat(state, 1, 2) if state.dim() == 4 else state.to(real),
        flat(x, 1, 2),
        flat(dt, 1, 2),
        flat(A, 0, 1) if A.dim() == 3 else A.to(real),
        grouped(B),
        grouped(C),
        flat(D, 0, 1),
        flat(z, 1, 2),
        flat(dt_bias, 0, 1),
        bool(dt_softplus),
    )
    return out.view(x.shape).to(x.dtype), new_state.view(state.shape)


def _reference(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    z: Tensor | None, dt_bias: Tensor | None, dt_softplus: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    x, dt, B, C = (t[..., None] for t in (x, dt, B, C))
    z = z if z is None else z[..., None]
    out, new_state = selective_scan(
        x, dt, A, B, C, D, z, dt_bias, dt_softplus,
        initial_state=state, return_final_state=True, backend="reference",
    )  # fmt: skip
    return out[..., 0], new_state
