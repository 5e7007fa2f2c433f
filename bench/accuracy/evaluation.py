# SPDX-License-Identifier: MIT
"""What a trained model is worth: rollouts on every grid, and what its modes have become."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from ssno_kernels.nn import DampedConv

from .data import Pairs
from .tasks import Task
from .training import Operator, relative_error


@torch.no_grad()
def rollout(operator: Operator, task: Task, inputs: Tensor) -> Tensor:
    """(n, T - given + 1, 1, *grid): what follows the first `given` of (n, T, 1, *grid) inputs.

    The model sees the last `history` frames: given ones, then its own.
    """
    scale = task.size / inputs.shape[-1]
    if not task.rolls:
        return operator(inputs, scale)
    frames = list(inputs[:, : task.given].unbind(1))
    for _ in range(inputs.shape[1] - task.given + 1):
        seen = torch.stack(frames[-task.history :], dim=1)
        frames.append(operator(seen, scale, last=True)[:, 0])
    return torch.stack(frames[task.given :], dim=1)


def resample(x: Tensor, task: Task, size: int) -> Tensor:
    """(n, T, 1, *grid) on `size` points an axis: by its Fourier series, or bicubic, antialiased."""
    before, axes = x.shape[-1], tuple(range(3, x.dim()))
    if before == size:
        return x
    if task.boundary != "periodic":
        flat = interpolate(x.flatten(0, 1), [size] * task.axes, mode="bicubic", antialias=True)
        return flat.unflatten(0, x.shape[:2])
    count = min(before, size)
    waves = torch.arange(-((count - 1) // 2), (count + 1) // 2, device=x.device)  # below Nyquist's
    spectrum = torch.fft.fftn(x, dim=axes)
    out = spectrum.new_zeros(*x.shape[:3], *[size] * task.axes)
    kept = [slice(None)] * 3
    source = torch.meshgrid(*[waves % before] * task.axes, indexing="ij")
    target = torch.meshgrid(*[waves % size] * task.axes, indexing="ij")
    out[(*kept, *target)] = spectrum[(*kept, *source)]
    return torch.fft.ifftn(out, dim=axes).real * (size / before) ** task.axes


def test(
    operator: Operator, task: Task, pairs: Pairs, resampled: bool = False
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
            predicted = rollout(operator, task, resample(inputs, task, task.size))
            predicted = resample(predicted, task, size).cpu()
        else:
            predicted = rollout(operator, task, inputs).cpu()
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
