# SPDX-License-Identifier: MIT
"""MambaNO (NeurIPS 2024, openreview gUEBXGV8JM): a U-shaped operator of scans and convolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..nn.cross_selective_scan import ChannelNorm, CrossSelectiveScan, activation
from ..nn.stencil import stencil

_DEAD_BLOCKS = 4  # of the 6 residual blocks in the neck of the released model


class DropPath(nn.Module):
    """Leave a whole branch out, for each sample of the batch with this probability; in training."""

    def __init__(self, probability: float):
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.probability == 0:
            return x
        keep = 1 - self.probability
        kept = torch.bernoulli(x.new_full((x.shape[0], *(1 for _ in x.shape[1:])), keep))
        return x * (kept / keep)


class ScanBlock(nn.Module):
    """x + DropPath(scan(norm(x)))"""

    def __init__(self, channels: int, drop: float, states: int, alias_free: bool):
        super().__init__()
        self.norm = ChannelNorm(channels)
        self.scan = CrossSelectiveScan(channels, states=states, alias_free=alias_free)
        self.drop = DropPath(drop)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        out: Tensor = x + self.drop(self.scan(self.norm(x), scale))
        return out


class TwoConvolutions(nn.ModuleList):
    """Two convolutions of 3 x 3, an activation between them."""

    def __init__(self, inputs: int, hidden: int, outputs: int, alias_free: bool):
        layers = (
            nn.Conv2d(inputs, hidden, 3, padding=1),
            nn.BatchNorm2d(hidden),
            activation(1, 1, hidden, alias_free),
            nn.Conv2d(hidden, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
        )
        super().__init__(layers)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        for layer in self:
            x = stencil(layer, x, scale) if isinstance(layer, nn.Conv2d) else layer(x)
        return x


class ResidualBlock(nn.Module):
    """x + two convolutions of 3 x 3, an activation between them."""

    def __init__(self, channels: int, alias_free: bool):
        super().__init__()
        self.branch = TwoConvolutions(channels, channels, channels, alias_free)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        out: Tensor = x + self.branch(x, scale)
        return out


class Blocks(nn.ModuleList):
    """One after the other, on a grid whose step is `scale` times that of training."""

    def forward(self, x: Tensor, scale: float) -> Tensor:
        for block in self:
            x = block(x, scale)
        return x


def _resample(
    inputs: int, outputs: int, size_in: int, size_out: int, alias_free: bool
) -> nn.Sequential:
    """A map of the channels, and the activation that changes the rate."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1), activation(size_in, size_out, outputs, alias_free)
    )


class MambaNO2d(nn.Module):
    """(B, inputs, H, W) -> (B, outputs, H, W), for any H and W, those of training or others.

    Lift to `width` channels; encode in four levels of width * {1, 2, 4, 8} channels on grids of
    {1, 1/2, 1/4, 1/8} the points an axis, each two residual blocks (but for the last) and two scan
    blocks; two residual blocks in the neck; decode by two scan blocks a level, what the encoder had
    at a level added before its rate is doubled; project. What the encoder had at full resolution
    is not used, as in the released model.

    Grids whose sides 8 does not divide are continued by their last row and column, and the result
    is cropped.

    On a grid n times as fine as that of training, pass scale = 1 / n: the 3 x 3 convolutions then
    reach as far as they did in training. The other way to run it elsewhere is that of CNO (arXiv
    2302.01178, C.4): resample the fields to the training grid, as the points of your data lie, and
    the result back. It is the one for coarser grids, and for those so small that most points of the
    deepest level, of an eighth of the points an axis, see an edge.

    Args:
        inputs, outputs: channels of the fields.
        width: channels of the first level: 16 or 32 in the paper.
        states: of the scans.
        drop_path: probability of the deepest scan blocks to be left out in training; it rises from
            0 in the encoder and falls to it in the decoder.
        hidden: channels inside lift and projection.
        dead_blocks: also hold the four residual blocks that the released model has in its neck and
            never runs: 3,032,435 parameters instead of 1,849,203 at width 16, one channel each way.
        alias_free: False replaces every activation by a plain one, with as many parameters.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        width: int = 16,
        states: int = 16,
        drop_path: float = 0.1,
        hidden: int = 64,
        dead_blocks: bool = False,
        alias_free: bool = True,
    ):
        super().__init__()
        channels = [width * 2**level for level in range(4)]
        drops = [drop_path * i / 7 for i in range(8)]

        def scans(level: int, drops: Sequence[float]) -> Blocks:
            return Blocks(ScanBlock(channels[level], drop, states, alias_free) for drop in drops)

        def residuals(level: int, count: int) -> Blocks:
            return Blocks(ResidualBlock(channels[level], alias_free) for _ in range(count))

        levels, steps = range(4), range(3)
        self.lift = TwoConvolutions(inputs, hidden, width, alias_free)
        self.encoder_residuals = nn.ModuleList(residuals(i, 2) for i in steps)
        self.encoder_scans = nn.ModuleList(scans(i, drops[2 * i : 2 * i + 2]) for i in levels)
        self.down = nn.ModuleList(
            _resample(channels[i], channels[i + 1], 2, 1, alias_free) for i in steps
        )
        self.neck = residuals(3, 2)
        self.dead_neck = residuals(3, _DEAD_BLOCKS) if dead_blocks else None
        falling = drops[::-1]
        self.decoder_scans = nn.ModuleList(scans(3 - i, falling[2 * i : 2 * i + 2]) for i in levels)
        self.up = nn.ModuleList(
            _resample(channels[3 - i], channels[2 - i], 1, 2, alias_free) for i in steps
        )
        self.project = TwoConvolutions(width, hidden, outputs, alias_free)

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        """`scale` is the step of x's grid over that of the training grid: 0.5 if twice as fine."""
        height, width = x.shape[2:]
        if height % 8 or width % 8:
            x = pad(x, (0, -width % 8, 0, -height % 8), mode="replicate")
        h = self.lift(x, scale)
        levels = []
        for residuals, scans, down in zip(
            self.encoder_residuals, self.encoder_scans, self.down, strict=False
        ):
            h = scans(residuals(h, scale), scale)
            levels.append(h)
            h = down(h)
        h = self.encoder_scans[3](h, scale)
        levels.append(h)
        h = self.decoder_scans[0](self.neck(h, scale), scale)
        for up, scans in zip(self.up, self.decoder_scans[1:], strict=True):
            h = scans(up(h + levels.pop()), scale)
        out: Tensor = self.project(h, scale)
        return out[..., :height, :width]
