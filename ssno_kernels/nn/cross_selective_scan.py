# SPDX-License-Identifier: MIT
"""The SS2D layer of VMamba and MambaNO, on grids of 1 to 3 axes and of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, silu

from ..ops.cross_selective_scan import (
    CROSS_1D,
    CROSS_2D,
    CROSS_3D_BOTH,
    Traversal,
    cross_selective_scan,
)
from .alias_free_activation import AliasFreeActivation
from .bicubic import bicubic
from .stencil import stencil

_CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d,
    2: nn.Conv2d,
    3: nn.Conv3d,
}
_TRAVERSALS = {1: CROSS_1D, 2: CROSS_2D, 3: CROSS_3D_BOTH}


class Pointwise(nn.Linear):
    """The same linear map of the channels at every point: (B, C, *grid) -> (B, C', *grid)."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.weight @ x.flatten(2)
        if self.bias is not None:
            y = y + self.bias[:, None]
        out: Tensor = y.unflatten(2, x.shape[2:])
        return out


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each point of (B, C, *grid)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class PlainActivation(nn.Module):
    """What `AliasFreeActivation` does without its filters: the rate changes by every second sample.

    With ratio 1 / 2 every second sample is left out, with ratio 2 every sample is repeated.
    """

    def __init__(self, size_in: int, size_out: int, channels: int):
        super().__init__()
        self.size_in, self.size_out = size_in, size_out
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        axes = range(2, x.dim())
        y = leaky_relu(x + self.bias.view(-1, *(1 for _ in axes)), 0.2) * 2**0.5
        if self.size_in > self.size_out:
            every = slice(None, None, self.size_in // self.size_out)
            return y[(slice(None), slice(None)) + (every,) * len(axes)]
        for axis in axes:
            y = y.repeat_interleave(self.size_out // self.size_in, dim=axis)
        return y


def activation(size_in: int, size_out: int, channels: int, alias_free: bool) -> nn.Module:
    """Leaky ReLU with a learned bias and a change of rate."""
    kind = AliasFreeActivation if alias_free else PlainActivation
    return kind(size_in, size_out, channels)


def _scaled(x: Tensor, factor: float) -> Tensor:
    """Bicubic, antialiased; axis by axis, which is the same as all at once."""
    for axis in range(2, x.dim()):
        line = x.movedim(axis, -1)
        size = [1, round(factor * line.shape[-1])]
        flat = line.reshape(-1, 1, 1, line.shape[-1])
        flat = bicubic(flat, size)
        x = flat.view(*line.shape[:-1], size[1]).movedim(-1, axis)
    return x


def alias_free_gate(z: Tensor) -> Tensor:
    """SiLU between a bicubic doubling of the grid and its bicubic, antialiased halving.

    In float32 at least: PyTorch has no half precision of these on a CPU.
    """
    dtype = z.dtype
    z = z.to(torch.promote_types(dtype, torch.float32))
    if z.dim() != 4:
        return _scaled(silu(_scaled(z, 2.0)), 0.5).to(dtype)
    size = z.shape[2:]
    return bicubic(silu(bicubic(z, [2 * n for n in size])), size).to(dtype)


class CrossSelectiveScan(nn.Module):
    """Selective scans along K traversals of a grid, gated: (B, C, *grid) -> (B, C, *grid).

    x and z are two halves of a linear map to 2 E C channels; x passes a depthwise convolution of 3
    points an axis and an alias-free leaky ReLU; each traversal k has its own linear maps of x to B,
    C and the factor of delta, and its own A, D and delta_weight; the sum of the scans is
    normalised, multiplied by the alias-free SiLU of z, and mapped back to C channels.

    Args:
        channels: C.
        axes: of the grid, 1 to 3.
        expand: E.
        states: N of each channel.
        rank: R of delta's factor; a sixteenth of C, rounded up, if not given.
        traversals: see :func:`ssno_kernels.cross_selective_scan`; if not given, both directions of
            every order of the axes, as ``CROSS_2D`` is.
        alias_free: False replaces the activation and the gate by plain ones, with as many
            parameters.
    """

    def __init__(
        self,
        channels: int,
        *,
        axes: int = 2,
        expand: int = 2,
        states: int = 16,
        rank: int | None = None,
        traversals: Sequence[Traversal] | None = None,
        alias_free: bool = True,
    ):
        super().__init__()
        inner = expand * channels
        self.rank, self.states = rank or math.ceil(channels / 16), states
        self.traversals = tuple(traversals or _TRAVERSALS[axes])
        self.alias_free = alias_free
        count = len(self.traversals)
        self.in_proj = Pointwise(channels, 2 * inner, bias=False)
        self.conv = _CONVOLUTIONS[axes](inner, inner, 3, padding=1, groups=inner)
        self.activation = activation(1, 1, inner, alias_free)
        self.x_proj = Pointwise(inner, count * (self.rank + 2 * states), bias=False)
        self.delta_weight = nn.Parameter(torch.empty(count, inner, self.rank))
        self.delta_bias = nn.Parameter(torch.empty(count, inner))
        self.A_log = nn.Parameter(torch.empty(count, inner, states))
        self.D = nn.Parameter(torch.empty(count, inner))
        self.norm = ChannelNorm(inner)
        self.out_proj = Pointwise(inner, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A = -(1 .. N), D = 1, and steps log-uniform in [1e-3, 0.1], as Mamba begins."""
        nn.init.uniform_(self.delta_weight, -(self.rank**-0.5), self.rank**-0.5)
        with torch.no_grad():
            step = 1e-3 * 100 ** torch.rand_like(self.delta_bias)
            self.delta_bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus gives the step
            self.A_log.copy_(torch.arange(1, self.states + 1).log().expand_as(self.A_log))
            self.D.fill_(1)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` is the step of x's grid over that of the training grid: 0.5 if twice as fine."""
        x, z = self.in_proj(x).chunk(2, dim=1)
        x = self.activation(stencil(self.conv, x, scale))
        projected = self.x_proj(x).to(x.dtype).unflatten(1, (len(self.traversals), -1))
        delta, B, C = projected.split([self.rank, self.states, self.states], dim=2)
        y = cross_selective_scan(
            x, delta, -self.A_log.exp(), B, C, self.D, self.delta_bias,
            traversals=self.traversals, delta_weight=self.delta_weight,
        )  # fmt: skip
        gate = alias_free_gate(z) if self.alias_free else silu(z)
        out: Tensor = self.out_proj(self.norm(y) * gate)
        return out

    def extra_repr(self) -> str:
        return f"{len(self.traversals)} traversals, states={self.states}, rank={self.rank}"
