# SPDX-License-Identifier: MIT
"""The damped convolution as a layer: S4D's parameters, initialisation and discretisation."""

from __future__ import annotations

import math
from typing import TypedDict

import torch
from torch import Tensor, nn

from ..ops.damped_conv import damped_conv, damped_conv_kernel, damped_conv_step
from ..ops.damped_conv.arguments import COMPLEX, DIRECTIONS, state_dtype


class Modes(TypedDict):
    """Arguments of `damped_conv`."""

    damping: Tensor
    frequency: Tensor
    coeff: Tensor
    D: Tensor
    step: Tensor


class DampedConv(nn.Module):
    r"""Convolution of one grid axis with N damped waves a channel (SS-NO, S4D).

    The waves are modes of v' = A v + u, y = 2 Re <C, v> + D u, A = -damping + i frequency. They are
    sampled exactly, with z = A step, for a u that between the points of the grid is

        constant (zero-order hold):  coeff = C (exp(z) - 1) / A
        linear:                      coeff = C step (sinh(z/2) / (z/2))^2, and to D is added
                                     -2 Re sum C step (exp(-z) - 1 + z) / z^2 for each sweep

    With `linear`, lag 0 has the half hat that each sweep covers, and the output converges with the
    square of the step; rounding grows as exp(damping step), so it is for resolved modes.
    `constant`, which is what S4D has, is of first order.

    Initialised as S4D-Lin (arXiv 2206.11893): A_n = -1/2 + i pi n, step log-uniform in `steps`, C
    complex normal. A constant is then amplified by 2 Re C_0 / damping for each sweep, so by
    N(0, 4^2) in all for two of them; C is multiplied by `gain`.

    Parameters, all real, so that every optimiser and ``.to(dtype)`` serve; S is 2 for
    ``direction='both'``, whose sweeps have parameters of their own, and 1 else:

        log_damping (S, H, N), frequency (S, H, N), C (S, H, N, 2), log_step (H,), D (H,)

    Args:
        channels: H.
        states: N, conjugate pairs of states.
        direction, boundary, dim: as in `damped_conv`.
        hold: 'constant' or 'linear'.
        steps: the range of the initial steps.
        gain: the factor of the initial C.
        learn_damping, learn_frequency: False freezes log_damping or frequency, and log_step with
            it, which scales both.
    """

    def __init__(
        self,
        channels: int,
        states: int = 32,
        *,
        direction: str = "both",
        boundary: str = "zero",
        dim: int = -1,
        hold: str = "constant",
        steps: tuple[float, float] = (1e-3, 1e-1),
        gain: float = 1.0,
        learn_damping: bool = True,
        learn_frequency: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        if direction not in DIRECTIONS:
            raise ValueError(f"direction is {direction!r}; expected one of {', '.join(DIRECTIONS)}")
        if hold not in ("constant", "linear"):
            raise ValueError(f"hold is {hold!r}; expected 'constant' or 'linear'")
        self.channels, self.states, self.hold = channels, states, hold
        self.direction, self.boundary, self.dim = direction, boundary, dim
        self.steps, self.gain = steps, gain

        def parameter(*shape: int, learnt: bool = True) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape, device=device, dtype=dtype), learnt)

        modes = (2 if direction == "both" else 1, channels, states)
        self.log_damping = parameter(*modes, learnt=learn_damping)
        self.frequency = parameter(*modes, learnt=learn_frequency)
        self.C = parameter(*modes, 2)
        self.log_step = parameter(channels, learnt=learn_damping and learn_frequency)
        self.D = parameter(channels)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.log_damping.fill_(math.log(0.5))
        self.frequency.copy_(math.pi * torch.arange(self.states))
        self.C.normal_(std=self.gain * 0.5**0.5)
        self.log_step.uniform_(*map(math.log, self.steps))
        self.D.normal_()

    def forward(self, u: Tensor, scale: float = 1.0) -> Tensor:
        """(B, H, *grid) -> the same; `scale` is the grid's step over that of the training grid.

        On a grid twice as fine, ``scale=0.5`` computes the same convolution of the same field.
        """
        modes = self.modes(u.dtype, scale)
        return damped_conv(
            u, **modes, direction=self.direction, boundary=self.boundary, dim=self.dim
        )

    def advance(
        self, state: Tensor | None, u_t: Tensor, scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """One sample u_t (B, H, *others) of a forward sweep: (y_t, state); None is a zero state."""
        if self.direction != "forward":
            raise ValueError(f"direction is {self.direction!r}; expected 'forward' to go stepwise")
        modes = self.modes(u_t.dtype, scale)
        if state is None:
            state = modes["coeff"].new_zeros(*u_t.shape, self.states)
        return damped_conv_step(state, u_t, **modes)

    def kernel(self, length: int, scale: float = 1.0) -> Tensor:
        """k[j], j < length: (2, H, L) of two sweeps or (H, L); D and its addition are not in it."""
        modes = self.modes(self.C.dtype, scale)
        return damped_conv_kernel(
            modes["damping"], modes["frequency"], modes["coeff"], modes["step"], length
        )

    def modes(self, dtype: torch.dtype, scale: float = 1.0) -> Modes:
        """The arguments of `damped_conv` for activations of a dtype; phases are in float64."""
        damping, frequency = self.log_damping.double().exp(), self.frequency.double()
        step = self.log_step.double().exp() * scale
        C, D = torch.view_as_complex(self.C.double()), self.D.double()
        A = torch.complex(-damping, frequency)
        z = A * step[:, None]
        if self.hold == "constant":
            coeff = C * torch.expm1(z) / A
        else:
            C = C * step[:, None]
            coeff = C * (torch.sinh(z / 2) / (z / 2)) ** 2
            D = D - 2 * (C * (torch.expm1(-z) + z) / z**2).real.sum((0, 2))
        if self.direction != "both":
            damping, frequency, coeff = damping[0], frequency[0], coeff[0]
        real = state_dtype(dtype)
        coeff = coeff.to(COMPLEX[real])
        return Modes(damping=damping, frequency=frequency, coeff=coeff, D=D.to(real), step=step)

    @torch.no_grad()
    def memory_length(self) -> Tensor:
        """1 / damping (S, H, N): the length over which a mode falls by 1/e, in units of step."""
        return torch.exp(-self.log_damping)

    @torch.no_grad()
    def period(self) -> Tensor:
        """2 pi / |frequency| (S, H, N), in units of step; infinite for a mode that only decays."""
        return 2 * math.pi / self.frequency.abs()

    @torch.no_grad()
    def receptive_field(self, level: float = 0.01, scale: float = 1.0) -> Tensor:
        """Grid steps (S, H, N) to each side after which a mode has fallen to `level`."""
        step = self.log_step.exp()[:, None] * scale
        return -math.log(level) * self.memory_length() / step

    def extra_repr(self) -> str:
        return (
            f"{self.channels}, states={self.states}, direction={self.direction!r}, "
            f"boundary={self.boundary!r}, dim={self.dim}, hold={self.hold!r}"
        )
