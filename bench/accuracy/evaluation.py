# SPDX-License-Identifier: MIT
"""What a trained model is worth: rollouts on every grid, and what its modes have become."""

from __future__ import annotations

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor, nn

from ssno_kernels.nn import DampedConv

from .data import Pairs
from .tasks import Task
from .training import Operator, relative_error


@torch.no_grad()
def rollout(operator: Operator, task: Task, inputs: Tensor, forced: bool = False) -> Tensor:
    """(n, T - given + 1, 1, *grid): what follows the first `given` of (n, T, 1, *grid) inputs.

    The model sees the last `history` frames: given ones, then its own, or with `forced` the inputs.
    """
    scale = task.size / inputs.shape[-1]
    if not task.rolls:
        return operator(inputs, scale)
    frames, said = list(inputs[:, : task.given].unbind(1)), []
    for step in range(task.given, inputs.shape[1] + 1):
        seen = torch.stack(frames[-task.history :], dim=1)
        said.append(operator(seen, scale, last=True)[:, 0])
        if step < inputs.shape[1]:
            frames.append(inputs[:, step] if forced else said[-1])
    return torch.stack(said, dim=1)


def resample(x: Tensor, task: Task, size: int) -> Tensor:
    """(n, T, 1, *grid) on `size` points an axis, the points of both grids at 0, 1 / n, 2 / n ...

    Periodic fields by their Fourier series. Others by every so many points, as the training data
    are, or by cubic splines that end in the 0 at the far wall, as solutions do.
    """
    if x.shape[-1] == size:
        return x
    axes = tuple(range(3, x.dim()))
    if task.boundary == "periodic":
        return _by_fourier_series(x, axes, size)
    if x.shape[-1] % size == 0:
        return x[(..., *[slice(None, None, x.shape[-1] // size)] * len(axes))]
    y = x.double().cpu().numpy()
    for axis in axes:
        n = y.shape[axis]
        walled = np.concatenate([y, np.zeros_like(y.take([0], axis))], axis)
        y = CubicSpline(np.arange(n + 1) / n, walled, axis)(np.arange(size) / size)
    return torch.from_numpy(y).to(x)


def _by_fourier_series(x: Tensor, axes: tuple[int, ...], size: int) -> Tensor:
    before, count = x.shape[-1], min(x.shape[-1], size)
    waves = torch.arange(-((count - 1) // 2), (count + 1) // 2, device=x.device)  # below Nyquist's
    spectrum = torch.fft.fftn(x, dim=axes)
    out = spectrum.new_zeros(*x.shape[:3], *[size] * len(axes))
    kept = [slice(None)] * 3
    source = torch.meshgrid(*[waves % before] * len(axes), indexing="ij")
    target = torch.meshgrid(*[waves % size] * len(axes), indexing="ij")
    out[(*kept, *target)] = spectrum[(*kept, *source)]
    return torch.fft.ifftn(out, dim=axes).real * (size / before) ** len(axes)


def test(
    operator: Operator, task: Task, pairs: Pairs, resampled: bool = False, forced: bool = False
) -> tuple[Tensor, Tensor]:
    """Relative L2 of every sample and predicted frame, and the prediction of the first sample.

    With `resampled` the model runs on the training grid, its inputs and outputs resampled.
    """
    operator.eval()
    device, size = operator.statistics.device, pairs.inputs.shape[-1]
    errors, first = [], None
    for start in range(0, len(pairs), 32):
        part = pairs.part(slice(start, start + 32))
        inputs = part.inputs.to(device)
        if resampled:
            predicted = rollout(operator, task, resample(inputs, task, task.size), forced)
            predicted = resample(predicted, task, size).cpu()
        else:
            predicted = rollout(operator, task, inputs, forced).cpu()
        first = predicted[0] if first is None else first
        errors.append(relative_error(predicted, part.targets[:, task.given - 1 :]))
    return torch.cat(errors), first


def modes(net: nn.Module) -> dict[str, Tensor]:
    """1/damping and period of every mode of every damped convolution, in steps of its channel."""
    found = {}
    for name, layer in net.named_modules():
        if isinstance(layer, DampedConv):
            step = layer.log_step.detach().exp()[:, None]
            found[name] = torch.stack([layer.memory_length() / step, layer.period() / step]).cpu()
    return found
