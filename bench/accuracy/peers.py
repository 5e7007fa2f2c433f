# SPDX-License-Identifier: MIT
"""The models of a run, all called alike: net(frames, scale, last).

frames (B, K, C, *grid) -> (B, K, 1, *grid), what follows each, or with `last` (B, 1, 1, *grid),
what follows the last; `scale` is the step of the grid over that of the training grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssno_kernels.models import MambaNO2d, SSNO1d, SSNO2d

from .tasks import Task


class UNet(nn.Module):
    """Convolutions of 3 points on four grids, each half as fine as the one before, and back."""

    def __init__(self, inputs: int, outputs: int, axes: int, boundary: str, width: int = 24):
        super().__init__()
        channels = [width * 2**level for level in range(4)]

        def pair(before: int, after: int) -> nn.Sequential:
            layers: list[nn.Module] = []
            for source in (before, after):
                mode = "circular" if boundary == "periodic" else "zeros"
                kind = (nn.Conv1d, nn.Conv2d)[axes - 1]
                layers += [kind(source, after, 3, padding=1, padding_mode=mode)]
                layers += [nn.GroupNorm(4, after), nn.GELU()]
            return nn.Sequential(*layers)

        self.pool = (nn.AvgPool1d, nn.AvgPool2d)[axes - 1](2)
        self.down = nn.ModuleList(map(pair, [inputs, *channels], channels))
        self.up = nn.ModuleList(
            pair(fine + coarse, fine)
            for fine, coarse in zip(channels[-2::-1], channels[:0:-1], strict=True)
        )
        self.out = (nn.Conv1d, nn.Conv2d)[axes - 1](width, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        levels = []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)
            levels.append(x)
        x = levels.pop()
        for up in self.up:
            fine = levels.pop()
            x = up(torch.cat([fine, interpolate(x, size=fine.shape[2:])], dim=1))
        return self.out(x)


def places(task: Task, grid: tuple[int, ...]) -> Tensor:
    """(channels, *grid): where each point is; on a torus sine and cosine of each coordinate."""
    if not task.placed:
        return torch.empty(0, *grid)
    axes = torch.meshgrid(*(torch.arange(n) / n for n in grid), indexing="ij")
    if task.boundary == "periodic":
        axes = [wave(2 * torch.pi * x) for x in axes for wave in (torch.sin, torch.cos)]
    return torch.stack(list(axes))


def inputs_of(task: Task) -> int:
    """Channels of one frame and of the places."""
    return 1 + len(places(task, (1,) * task.axes))


class Frames(nn.Module):
    """A model with a memory: it has the frames in turn."""

    def __init__(self, net: nn.Module, task: Task):
        super().__init__()
        self.net, self.task = net, task

    def forward(self, x: Tensor, scale: float = 1.0, last: bool = False) -> Tensor:
        place = places(self.task, x.shape[3:]).to(x).expand(*x.shape[:2], -1, *x.shape[3:])
        out = self.net(torch.cat([x, place], dim=2), scale)
        return out[:, -1:] if last else out


class Stacked(nn.Module):
    """A model without a memory: it has the last frames as channels, the first one repeated.

    With `scaled` it is told how fine a grid is that is finer than that of training.
    """

    def __init__(self, net: nn.Module, task: Task, scaled: bool):
        super().__init__()
        self.net, self.task, self.scaled = net, task, scaled

    def forward(self, x: Tensor, scale: float = 1.0, last: bool = False) -> Tensor:
        steps = torch.arange(x.shape[1] - 1 if last else 0, x.shape[1], device=x.device)
        lags = torch.arange(self.task.history, device=x.device)
        frames = x[:, (steps[:, None] - lags).clamp(min=0)].flatten(2, 3).flatten(0, 1)
        place = places(self.task, x.shape[3:]).to(x).expand(len(frames), -1, *x.shape[3:])
        told = (scale,) if self.scaled and scale < 1 else ()
        return self.net(torch.cat([frames, place], dim=1), *told).unflatten(0, (len(x), len(steps)))


def _ssno(task: Task, **options) -> nn.Module:
    kind = (SSNO1d, SSNO2d)[task.axes - 1]
    options = {"memory": task.rolls, "boundary": task.boundary, "hold": "linear"} | options
    return Frames(kind(inputs_of(task), 1, **options), task)


def _stacked(
    build: Callable[..., nn.Module], task: Task, scaled: bool = False, **options
) -> nn.Module:
    return Stacked(build(task.history + inputs_of(task) - 1, task, **options), task, scaled)


def _fno(inputs: int, modes: tuple[int, ...], hidden: int) -> nn.Module:
    from neuralop.models import FNO

    return FNO(modes, inputs, 1, hidden, n_layers=4, positional_embedding=None)


def _near_equal_fno(inputs: int, task: Task) -> nn.Module:
    """With a few per cent more parameters than SS-NO of the same task."""
    modes, hidden = {1: ((24,), 42), 2: ((12, 12), 20)}[task.axes]
    if task.size == 16:
        modes, hidden = (8, 8), 27
    return _fno(inputs, modes, hidden)


def _large_fno(inputs: int, task: Task) -> nn.Module:
    """67.2 million parameters, as SS-NO's paper has: 64 channels, 64 x 32 modes."""
    return _fno(inputs, (64, 62), 64)


def _unet(inputs: int, task: Task, **options) -> nn.Module:
    return UNet(inputs, 1, task.axes, task.boundary, **options)


def _mambano(inputs: int, task: Task, **options) -> nn.Module:
    return MambaNO2d(inputs, 1, **options)


_alias_free = partial(_stacked, _mambano, scaled=True)
_plain = partial(_alias_free, alias_free=False)


@dataclass(frozen=True)
class Model:
    """A row of the table; `build` gets the task, and `serves` says which tasks it is trained on.

    The rate of learning is the best of 1e-3, 3e-3 and 6e-3 or 8e-3 after a few epochs, on samples
    of ks-0.1 and darcy that are neither trained nor tested on. With `change` the model says what is
    to be added to the last frame, else the next frame itself.
    """

    build: Callable[..., nn.Module]
    serves: Callable[[Task], bool] = lambda task: True
    rate: float = 1e-3
    change: bool = False


def _plane(task: Task) -> bool:
    return task.axes == 2


def _torus(task: Task) -> bool:
    return task.name == "torus"


def _small(task: Task) -> bool:
    return task.name != "torus"


def _ks(task: Task) -> bool:
    return task.family == "ks"


def _peer(build: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    return partial(_stacked, build)


MODELS = {
    "ssno": Model(_ssno, rate=6e-3),
    "ssno, constant hold": Model(partial(_ssno, hold="constant"), _small, 6e-3),
    "ssno, fixed damping": Model(partial(_ssno, learn_damping=False), _ks, 6e-3),
    "ssno, fixed frequency": Model(partial(_ssno, learn_frequency=False), _ks, 6e-3),
    "ssno, one-sided": Model(partial(_ssno, direction="forward", boundary="zero"), _ks, 6e-3),
    "ssno, change": Model(_ssno, _ks, 6e-3, change=True),
    "fno": Model(_peer(_near_equal_fno), rate=8e-3),
    "fno, change": Model(_peer(_near_equal_fno), _ks, 3e-3, change=True),
    "fno, paper's size": Model(_peer(_large_fno), _torus),
    "unet": Model(_peer(_unet)),
    "mambano": Model(_alias_free, _plane),
    "mambano, plain": Model(_plain, _plane),
}


def parameters(net: nn.Module) -> int:
    """Real numbers that are learnt; a complex one is two."""
    return sum(p.numel() * (1 + p.is_complex()) for p in net.parameters() if p.requires_grad)
