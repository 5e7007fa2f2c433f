# SPDX-License-Identifier: MIT
"""What a trained model is worth: rollouts on every grid, and what its modes have become."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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
        frames.append(operator(seen, scale)[:, -1])
    return torch.stack(frames[task.given :], dim=1)


def test(operator: Operator, task: Task, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Relative L2 of every sample and predicted frame, and the prediction of the first sample."""
    operator.eval()
    device = operator.statistics.device
    errors, first = [], None
    for start in range(0, len(pairs), 32):
        part = pairs.part(slice(start, start + 32))
        predicted = rollout(operator, task, part.inputs.to(device)).cpu()
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
