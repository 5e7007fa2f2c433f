# SPDX-License-Identifier: MIT
"""`damped_conv` one sample at a time, and its kernel written out. Plain PyTorch, differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import arguments as check
from .arguments import rates


def damped_conv_step(
    state: Tensor,
    u_t: Tensor,
    damping: Tensor,
    frequency: Tensor,
    coeff: Tensor,
    D: Tensor | None = None,
    *,
    step: float | Tensor = 1.0,
) -> tuple[Tensor, Tensor]:
    """One sample of `damped_conv`'s forward sweep: (D2) to (D4), for rollouts and time steps.

    Args:
        state: (B, H, *others, N) complex, h before the sample; zeros to begin with.
        u_t: (B, H, *others) the sample.
        damping, frequency, coeff, D, step: as in `damped_conv`, for one sweep.

    Returns:
        (out_t as u_t, the new state); `damped_conv` on the samples stacked gives the same.
    """
    check.expect_tensor("state", state)
    check.expect_tensor("u_t", u_t)
    _check_modes(damping, frequency, coeff, D, step)
    if u_t.dim() < 2 or u_t.shape[1] < 1:
        raise ValueError(f"u_t has shape {tuple(u_t.shape)}; expected (B, H >= 1, *others)")
    check.check_modes(damping, frequency, coeff, D, step, u_t.shape[1], two_sweeps=False)
    expected = (*u_t.shape, damping.shape[-1])
    check.expect_shape("state", state, "(B, H, *others, N)", expected)
    check.expect_dtype("u_t", u_t, check.ACTIVATION_DTYPES)
    check.check_mode_dtypes(u_t.dtype, damping, frequency, coeff, D, step)
    real = check.state_dtype(u_t.dtype)
    check.expect_dtype("state", state, (check.COMPLEX[real],))
    check.check_values(damping, step)

    others = [1] * (u_t.dim() - 2)

    def of_channel(x: Tensor) -> Tensor:
        return x.reshape(x.shape[0], *others, *x.shape[1:])

    # lambda h as h + (lambda - 1) h: the rounding of lambda would add up over its memory
    change = torch.expm1(rates(damping, frequency, step)).to(state.dtype)
    x = u_t.to(real)
    state = state + of_channel(change) * state + x[..., None]
    out = 2 * (of_channel(coeff) * state).real.sum(-1)
    if D is not None:
        out = out + of_channel(D.to(real)) * x
    return out.to(u_t.dtype), state


def damped_conv_kernel(
    damping: Tensor, frequency: Tensor, coeff: Tensor, step: float | Tensor, length: int
) -> Tensor:
    """k[j] = 2 Re sum_n coeff_n lambda_n^j for j < length, as (H, L), or (2, H, L) of two sweeps.

    For plots and tests: `damped_conv` never writes it. Phases are float64; the result has coeff's
    precision. Of j = q T + r, the powers lambda^(q T) and lambda^r are formed and multiplied out,
    so that memory is O(H (L + N sqrt(L))).
    """
    _check_modes(damping, frequency, coeff, None, step)
    if isinstance(length, bool) or not isinstance(length, int):
        raise TypeError(f"length is {length!r}; expected an int")
    if length < 1:
        raise ValueError(f"length is {length}; expected >= 1")
    channels = damping.shape[-2] if damping.dim() > 1 else 0
    check.check_modes(damping, frequency, coeff, None, step, channels, two_sweeps=True)
    real = torch.float64 if coeff.dtype == torch.complex128 else torch.float32
    check.check_mode_dtypes(real, damping, frequency, coeff, None, step)
    check.check_values(damping, step)

    rate = rates(damping, frequency, step)
    T = math.isqrt(length - 1) + 1
    low = torch.arange(T, device=rate.device)
    high = T * torch.arange(-(-length // T), device=rate.device)
    scaled = coeff.to(rate.dtype)[..., None] * torch.exp(rate[..., None] * high)
    k = 2 * (scaled.mT @ torch.exp(rate[..., None] * low)).real
    return k.flatten(-2)[..., :length].to(real)


def _check_modes(
    damping: object, frequency: object, coeff: object, D: object, step: object
) -> None:
    for name, value in (("damping", damping), ("frequency", frequency), ("coeff", coeff)):
        check.expect_tensor(name, value)
    check.expect_tensor("D", D, optional=True)
    check.check_step_type(step)
