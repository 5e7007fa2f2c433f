# SPDX-License-Identifier: MIT
"""SS-NO (arXiv 2507.23428): damped convolutions along the axes of a grid, mixed point by point."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, glu

from ..nn import DampedConv


class Pointwise(nn.Linear):
    """The same linear map of the channels at every point of any grid, channels first."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.expand(len(x), -1, -1)
        y = torch.baddbmm(self.bias[:, None], weight, x.flatten(2))
        out: Tensor = y.unflatten(2, x.shape[2:])
        return out


class Block(nn.Module):
    """x + mix(gelu(convolutions of x)), mix being gated and point by point.

    The convolutions follow one another, or with `factorised` run side by side and are summed.
    """

    def __init__(
        self, convolutions: list[DampedConv], hidden: int, width: int, factorised: bool = False
    ):
        super().__init__()
        self.convolutions = nn.ModuleList(convolutions)
        self.factorised = factorised
        self.widen, self.narrow = Pointwise(hidden, 2 * width), Pointwise(width, hidden)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        if self.factorised:
            y = sum(convolution(x, scale) for convolution in self.convolutions)
        else:
            y = x
            for convolution in self.convolutions:
                y = convolution(y, scale)
        return x + self._mix(y)

    def advance(self, state: Tensor | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """One frame of a block whose only convolution runs over frames."""
        convolution = self.convolutions[0]
        assert isinstance(convolution, DampedConv)
        y, state = convolution.advance(state, x)
        return x + self._mix(y), state

    def _mix(self, y: Tensor) -> Tensor:
        mixed: Tensor = self.narrow(glu(self.widen(gelu(y)), dim=1))
        return mixed


class SSNO(nn.Module):
    """Lift, blocks of damped convolutions along every axis of the grid, project.

    With `memory`, a block mid-stack convolves each point's past frames: the input is then frames
    (B, K, in, *grid), the output (B, K, out, *grid) where frame k has seen frames up to k. The same
    comes out of ``advance``, frame by frame. A single frame, and a model without memory, may leave
    K out.

    Args:
        inputs, outputs: channels of the fields.
        hidden, width: channels between the blocks and inside their gated mixing.
        states: conjugate pairs of states of each channel, direction and axis.
        direction, boundary, hold, learn_damping, learn_frequency: as in `nn.DampedConv`.
        steps: the range of the initial steps in space; those of the memory are from 0.1 to 1, as
            it is a few frames long.
        factorised: convolve the axes side by side instead of one after the other.
    """

    axes: int

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        hidden: int = 64,
        width: int = 128,
        states: int = 32,
        blocks: int = 4,
        memory: bool = False,
        factorised: bool = False,
        direction: str = "both",
        boundary: str = "periodic",
        hold: str = "constant",
        steps: tuple[float, float] = (1e-2, 1.0),
        learn_damping: bool = True,
        learn_frequency: bool = True,
    ):
        super().__init__()
        layer = partial(
            DampedConv,
            hidden,
            states,
            learn_damping=learn_damping,
            learn_frequency=learn_frequency,
        )
        # two sweeps amplify slow fields by a number of variance 1 instead of 16 for each axis
        space = partial(
            layer, direction=direction, boundary=boundary, hold=hold, steps=steps, gain=0.25
        )

        def block() -> Block:
            axes = [space(dim=2 + i) for i in range(self.axes)]
            return Block(axes, hidden, width, factorised)

        self.lift, self.project = Pointwise(inputs, hidden), Pointwise(hidden, outputs)
        self.early = nn.ModuleList(block() for _ in range(blocks // 2))
        self.late = nn.ModuleList(block() for _ in range(blocks - blocks // 2))
        self.memory = None
        if memory:
            frames = layer(dim=2, direction="forward", steps=(0.1, 1.0))
            self.memory = Block([frames], hidden, width)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` is the step of x's grid over that of the training grid: 0.5 if twice as fine."""
        frames = x if x.dim() == self.axes + 3 else x[:, None]
        h = self._encode(frames.flatten(0, 1), scale)
        if self.memory is not None:
            h = h.unflatten(0, frames.shape[:2]).transpose(1, 2)  # (B, hidden, K, *grid)
            h = self.memory(h).transpose(1, 2).flatten(0, 1)
        out = self._decode(h, scale).unflatten(0, frames.shape[:2])
        result: Tensor = out if frames is x else out[:, 0]
        return result

    def advance(
        self, x: Tensor, state: Tensor | None = None, scale: float = 1.0
    ) -> tuple[Tensor, Tensor | None]:
        """The next frame (B, in, *grid) and what is remembered of those before: (out, state)."""
        h = self._encode(x, scale)
        if self.memory is not None:
            h, state = self.memory.advance(state, h)
        return self._decode(h, scale), state

    def _encode(self, x: Tensor, scale: float) -> Tensor:
        h = self.lift(x)
        for block in self.early:
            h = block(h, scale)
        encoded: Tensor = h
        return encoded

    def _decode(self, h: Tensor, scale: float) -> Tensor:
        for block in self.late:
            h = block(h, scale)
        out: Tensor = self.project(h)
        return out


class SSNO1d(SSNO):
    """SS-NO on a line."""

    axes = 1


class SSNO2d(SSNO):
    """SS-NO on a 2-D grid."""

    axes = 2


class SSNO3d(SSNO):
    """SS-NO on a 3-D grid."""

    axes = 3
