# SPDX-License-Identifier: MIT
"""Training with checkpoints: a run that is interrupted goes on as if it had not been."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from .data import Fields, Pairs
from .tasks import Settings, Task

SAVE_EVERY = 60.0  # seconds, at least, between checkpoints
bar_place: int | None = None  # the line of this process's progress bar, if there are others


class Operator(nn.Module):
    """A model of normalised fields: of what comes next, or with `change` of what that adds."""

    def __init__(self, net: nn.Module, statistics: list[float], change: bool = False):
        super().__init__()
        self.net, self.change = net, change
        self.register_buffer("statistics", torch.tensor(statistics))

    def forward(
        self, frames: Tensor, scale: float = 1.0, last: bool = False, noise: float = 0.0
    ) -> Tensor:
        """(B, K, 1, *grid) -> the same: after each frame the next, or the field asked for.

        With `last`, only what follows the last frame.
        """
        mean, std, mean_out, std_out = self.statistics
        x = (frames - mean) / std
        if noise:
            x = x + noise * torch.randn_like(x)
        y = self.net(x, scale, last) * std_out + mean_out
        return x[:, -y.shape[1] :] * std + mean + y if self.change else y


def relative_error(predicted: Tensor, truth: Tensor) -> Tensor:
    """(n, T): ||predicted - truth|| / ||truth|| of every sample and frame, in L2."""
    norm = torch.linalg.vector_norm
    return norm((predicted - truth).flatten(2), dim=2) / norm(truth.flatten(2), dim=2)


@dataclass
class Progress:
    """What training has come to."""

    epoch: int = 0
    steps: int = 0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)  # the mean of every epoch


def windows(pairs: Pairs, length: int) -> tuple[Tensor, Tensor]:
    """(m,) each: sample and first frame, as many as fill the samples, shuffled."""
    count, frames = pairs.inputs.shape[:2]
    samples = torch.randperm(count * (frames // length)) % count
    return samples, torch.randint(frames - length + 1, samples.shape)


def steps_per_epoch(task: Task, fields: Fields, settings: Settings) -> int:
    count, frames = fields.train.inputs.shape[:2]
    return -(-count * (frames // task.history) // settings.batch)


def fit(
    operator: Operator,
    task: Task,
    fields: Fields,
    settings: Settings,
    rate: float,
    checkpoint: Path | None = None,
    key: str = "",
    device: str = "cpu",
    on_epoch: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Train in place, from `checkpoint` on if it was left by a run with the same `key`.

    Every epoch has a seed of its own, and checkpoints are between epochs, so what follows one is
    the same whether or not the process is.
    """
    operator.to(device)
    learnt = [p for p in operator.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learnt, lr=rate, weight_decay=settings.decay)
    total = settings.epochs * steps_per_epoch(task, fields, settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, total)
    progress = _restore(checkpoint, key, operator, optimiser, schedule)
    saved = time.monotonic()
    with tqdm(
        total=total, initial=progress.steps, unit="step", leave=False, disable=None,
        position=bar_place,
    ) as bar:  # fmt: skip
        while progress.epoch < settings.epochs:
            started = time.perf_counter()
            with torch.random.fork_rng():
                torch.manual_seed(1_000_003 * settings.seed + progress.epoch)
                losses = _epoch(operator, task, fields, settings, optimiser, schedule, bar)
            progress.epoch += 1
            progress.steps += len(losses)
            progress.seconds += time.perf_counter() - started
            progress.losses.append(sum(losses) / len(losses))
            bar.set_postfix(epoch=progress.epoch, loss=f"{progress.losses[-1]:.4f}")
            last = progress.epoch == settings.epochs
            if checkpoint and (last or time.monotonic() - saved >= SAVE_EVERY):
                _save(checkpoint, key, progress, operator, optimiser, schedule)
                saved = time.monotonic()
            on_epoch(progress)
    return progress


def _epoch(operator, task, fields, settings, optimiser, schedule, bar) -> list[float]:
    operator.train()
    device = operator.statistics.device
    samples, starts = windows(fields.train, task.history)
    losses = []
    for chosen in torch.arange(len(samples)).split(settings.batch):
        rows = samples[chosen][:, None]
        frames = starts[chosen][:, None] + torch.arange(task.history)
        x, y = (f[rows, frames].to(device) for f in (fields.train.inputs, fields.train.targets))
        loss = relative_error(operator(x, noise=task.noise), y).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
        bar.update()
    return losses


def tensors(net: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers alone; the state_dict of neuraloperator's models holds functions."""
    return dict(net.named_parameters()) | dict(net.named_buffers())


def _save(path: Path, key: str, progress: Progress, operator: nn.Module, *others) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"key": key, "progress": vars(progress), "tensors": tensors(operator)}
    content["others"] = [other.state_dict() for other in others]
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


@torch.no_grad()
def _restore(path: Path | None, key: str, operator: nn.Module, *others) -> Progress:
    if path is None or not path.exists():
        return Progress()
    content = torch.load(path, weights_only=True)
    if content["key"] != key:
        return Progress()
    for name, tensor in tensors(operator).items():
        tensor.copy_(content["tensors"][name])
    for other, state in zip(others, content["others"], strict=True):
        other.load_state_dict(state)
    return Progress(**content["progress"])
