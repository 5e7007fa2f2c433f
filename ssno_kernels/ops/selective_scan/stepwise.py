# SPDX-License-Identifier: MIT
"""`selective_scan` one sample at a time. Plain PyTorch, differentiable."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from . import arguments as check
from .arguments import ACTIVATION_DTYPES, COMPLEX, state_dtype


def selective_scan_step(
    state: Tensor,
    u_t: Tensor,
    delta_t: Tensor,
    A: Tensor,
    B_t: Tensor,
    C_t: Tensor,
    D: Tensor | None = None,
    z_t: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> tuple[Tensor, Tensor]:
    """One sample of `selective_scan`: (S1) to (S5), for rollouts and for text, token by token.

    Args:
        state: (B, D, N) h before the sample, complex for a complex A; zeros to begin with.
        u_t, delta_t, z_t: (B, D) the sample, its step size and its gate.
        A, D, delta_bias, delta_softplus: as in `selective_scan`.
        B_t, C_t: (B, N), or grouped (B, G, N): channel d reads group d // (D / G). A batch of 1
            serves every sample, so a constant (D, N) is given as ``B[None]``. For a complex A,
            real or complex.

    u_t, delta_t and z_t share one dtype, which B_t and C_t may have as well; parameters, B_t, C_t
    and the state may have the state's: float64 for float64 u_t, float32 for the others.

    Returns:
        (out_t as u_t, the new state in the state's dtype); `selective_scan` on the samples stacked
        gives the same. No argument is modified.
    """
    _check(state, u_t, delta_t, A, B_t, C_t, D, z_t, delta_bias, delta_softplus)
    real = state_dtype(u_t.dtype)
    channels = A.shape[0]

    def of_channel(M: Tensor) -> Tensor:
        """(B or 1, D or 1, N) in the state's precision."""
        M = M.to(COMPLEX[real] if M.is_complex() else real)
        return M[:, None] if M.dim() == 2 else M.repeat_interleave(channels // M.shape[1], dim=1)

    x, dt = u_t.to(real), delta_t.to(real)
    if delta_bias is not None:
        dt = dt + delta_bias.to(real)
    if delta_softplus:
        dt = softplus(dt)
    A = A if A.is_complex() else A.to(real)
    dt = dt[..., None]
    state = torch.exp(dt * A) * state + dt * x[..., None] * of_channel(B_t)
    out = (of_channel(C_t) * state).sum(-1)
    out = 2 * out.real if A.is_complex() else out
    if D is not None:
        out = out + D.to(real) * x
    if z_t is not None:
        out = out * silu(z_t.to(real))
    return out.to(u_t.dtype), state


def _check(
    state: Tensor, u_t: Tensor, delta_t: Tensor, A: Tensor, B_t: Tensor, C_t: Tensor,
    D: Tensor | None, z_t: Tensor | None, delta_bias: Tensor | None, delta_softplus: bool,
) -> None:  # fmt: skip
    needed = {"state": state, "u_t": u_t, "delta_t": delta_t, "A": A, "B_t": B_t, "C_t": C_t}
    optional = {"D": D, "z_t": z_t, "delta_bias": delta_bias}
    for name, value in (needed | optional).items():
        if not (isinstance(value, Tensor) or (value is None and name in optional)):
            wanted = "a Tensor or None" if name in optional else "a Tensor"
            raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")
    if not isinstance(delta_softplus, bool):
        raise TypeError(f"delta_softplus is {delta_softplus!r}; expected True or False")
    _check_shapes(needed, optional)
    check._expect_dtype("u_t", u_t, ACTIVATION_DTYPES)
    real = state_dtype(u_t.dtype)
    parameter, cmplx = (u_t.dtype, real), (COMPLEX[real],)
    projection = (*parameter, *cmplx) if A.is_complex() else parameter
    for name, value, allowed in (
        ("A", A, (*parameter, *cmplx)),
        ("state", state, cmplx if A.is_complex() else parameter),
        *(("delta_t", delta_t, (u_t.dtype,)), ("z_t", z_t, (u_t.dtype,))),
        *(("B_t", B_t, projection), ("C_t", C_t, projection)),
        *(("D", D, parameter), ("delta_bias", delta_bias, parameter)),
    ):
        check._expect_dtype(name, value, allowed)
        if value is not None and value.device != u_t.device:
            raise ValueError(f"{name} is on {value.device}; expected {u_t.device}, where u_t is")


def _check_shapes(needed: dict[str, Tensor], optional: dict[str, Tensor | None]) -> None:
    u_t, A = needed["u_t"], needed["A"]
    if u_t.dim() != 2 or u_t.shape[1] < 1:
        raise ValueError(f"u_t has shape {tuple(u_t.shape)}; expected (B, D >= 1)")
    batch, channels = u_t.shape
    if A.dim() != 2 or A.shape[0] != channels or A.shape[1] < 1:
        raise ValueError(f"A has shape {tuple(A.shape)}; expected (D, N) = ({channels}, N >= 1)")
    states = A.shape[1]
    check._expect("state", needed["state"], "(B, D, N)", (batch, channels, states))
    check._expect("delta_t", needed["delta_t"], "(B, D)", (batch, channels))
    for name in ("B_t", "C_t"):
        M = needed[name]
        groups = M.shape[1:-1]
        if not (
            M.dim() in (2, 3)
            and M.shape[-1] == states
            and M.shape[0] in (1, batch)
            and all(g >= 1 and channels % g == 0 for g in groups)
        ):
            raise ValueError(
                f"{name} has shape {tuple(M.shape)}; expected (B, N) = ({batch}, {states}) or "
                f"(B, G, N) with G a divisor of D = {channels}; B may be 1"
            )
    for name, letters, shape in (
        ("D", "(D,)", (channels,)),
        ("delta_bias", "(D,)", (channels,)),
        ("z_t", "(B, D)", (batch, channels)),
    ):
        if (value := optional[name]) is not None:
            check._expect(name, value, letters, shape)
