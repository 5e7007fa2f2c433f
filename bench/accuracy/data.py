# SPDX-License-Identifier: MIT
"""The fields of a task: solved once and cached, or read from the Darcy data."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench import fields

from .tasks import Settings, Task

CACHE = Path(__file__).with_name(".cache")
DARCY = "neuraloperator==0.3.0"  # later versions hold no data
DARCY_WHEEL = "neuraloperator-0.3.0-py3-none-any.whl"
DARCY_SHA256 = "483b358f2d9823c2ccb5dd0c1af8d21f879fd103806ad42959ebb975260e6ec4"


@dataclass(frozen=True)
class Pairs:
    """(n, T, 1, *grid) each: every input frame, and what is to be said after it."""

    inputs: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def part(self, chosen: slice) -> Pairs:
        return Pairs(self.inputs[chosen], self.targets[chosen])


@dataclass(frozen=True)
class Fields:
    train: Pairs
    test: dict[int, Pairs]  # by the points of an axis

    def statistics(self, change: bool = False) -> list[float]:
        """Mean and deviation of what is put in and of what is learnt, in training."""
        inputs, targets = self.train.inputs.double(), self.train.targets.double()
        learnt = targets - inputs if change else targets
        return [x.item() for x in (inputs.mean(), inputs.std(), learnt.mean(), learnt.std())]


def load(task: Task, settings: Settings, committed_only: bool = False) -> Fields:
    """The samples that `settings` asks for; `committed_only` is for runs that may fetch nothing."""
    if task.name == "darcy":
        return _committed_darcy(settings) if committed_only else _whole_darcy(settings)
    train = _solved(task.name, "train", settings.train)
    test = _solved(task.name, "test", settings.test)
    return Fields(
        _frames(train, task, task.size), {size: _frames(test, task, size) for size in task.sizes}
    )


def _frames(solved: np.ndarray, task: Task, size: int) -> Pairs:
    """The solver's grid subsampled."""
    kept = (slice(None, None, solved.shape[-1] // size),) * task.axes
    frames = torch.from_numpy(solved[(slice(None), slice(None), *kept)].copy())[:, :, None]
    return Pairs(frames[:, :-1], frames[:, 1:])


def _solved(equation: str, part: str, count: int) -> np.ndarray:
    recipe = Path(__file__).with_name("solvers.py").read_bytes()
    key = hashlib.sha256(recipe).hexdigest()[:12]
    path = CACHE / f"{equation}-{part}-{count}-{key}.npy"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "bench.accuracy.solvers", equation, part, str(count)]
        subprocess.run([*command, str(path)], check=True)
    return np.load(path, mmap_mode="r")


def _darcy_pairs(coefficient: Tensor, solution: Tensor) -> Pairs:
    return Pairs(coefficient.float()[:, None, None], solution.float()[:, None, None])


def _committed_darcy(settings: Settings) -> Fields:
    """From `bench/data`: 64 samples of 16 x 16, the last ones for the test, and 24 of 32 x 32."""
    coarse, fine = (_darcy_pairs(*fields.darcy(size).unbind(1)) for size in (16, 32))
    if settings.train + settings.test > len(coarse):
        raise ValueError(
            f"{settings.train} + {settings.test} samples; bench/data holds {len(coarse)}"
        )
    test = {16: coarse.part(slice(-settings.test, None)), 32: fine.part(slice(settings.test))}
    return Fields(coarse.part(slice(settings.train)), test)


def _whole_darcy(settings: Settings) -> Fields:
    """From the wheel that ships it: 1000 samples to train with, 50 to test with on each grid."""
    wheel = CACHE / DARCY_WHEEL
    if not wheel.exists():
        CACHE.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", DARCY]
        subprocess.run([*command, "--dest", str(CACHE)], check=True)
    if hashlib.sha256(wheel.read_bytes()).hexdigest() != DARCY_SHA256:
        raise RuntimeError(f"{wheel} is not the wheel that bench/data/README.md names; delete it")

    def read(name: str, count: int) -> Pairs:
        with zipfile.ZipFile(wheel).open(f"neuralop/datasets/data/darcy_{name}.pt") as file:
            data = torch.load(file, weights_only=True)
        return _darcy_pairs(data["x"][:count], data["y"][:count])

    test = {size: read(f"test_{size}", settings.test) for size in (16, 32)}
    return Fields(read("train_16", settings.train), test)
