# SPDX-License-Identifier: MIT
"""Figures of a run: rollouts, error against resolution, the modes before and after training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib

matplotlib.use("Agg")
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

from .tasks import TASKS, Task

if TYPE_CHECKING:
    from .report import Row

Own = list[tuple["Row", Path]]


def draw(folder: Path, rows: Own) -> list[Path]:
    """Those figures for which there is something to draw."""
    drawn = []
    tasks = [t for t in TASKS if any(row.task == t.name for row, _ in rows)]
    for task in tasks:
        own = [(row, path) for row, path in rows if row.task == task.name]
        drawn += _save(folder / f"prediction-{task.name}.png", predictions, task, own)
        if any(row.model == "ssno" for row, _ in own):
            drawn += _save(folder / f"modes-{task.name}.png", modes, task, own)
    drawn += _save(folder / "resolution.png", resolution, tasks, rows)
    return drawn


def _save(path: Path, plot: Callable, *arguments) -> list[Path]:
    figure = plot(*arguments)
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return [path]


def predictions(task: Task, own: Own):
    """The first test sample: in space and time on a line, the last frame in the plane."""
    with np.load(own[0][1] / "sample.npz") as arrays:
        panels = {"truth": arrays[f"truth_{task.size}"]}
    for row, path in own:
        with np.load(path / "sample.npz") as arrays:
            panels[row.model] = arrays[f"predicted_{task.size}"]
    truth = panels["truth"]
    off = np.stack([frames - truth for frames in panels.values()][1:])
    limits = np.abs(truth).max(), max(np.nanquantile(np.abs(off), 0.99), 1e-12)
    figure, axes = plt.subplots(
        2, len(panels), figsize=(2.3 * len(panels), 4.6), squeeze=False, sharex=True, sharey=True
    )
    for column, (name, frames) in enumerate(panels.items()):
        for line, (field, limit) in enumerate(zip((frames, frames - truth), limits, strict=True)):
            image = field.T if task.axes == 1 else field[-1]
            shown = axes[line][column].imshow(
                image, aspect="auto", origin="lower", cmap="RdBu_r",
                vmin=-limit, vmax=limit,
            )  # fmt: skip
            if column == len(panels) - 1:
                figure.colorbar(shown, ax=axes[line].tolist(), shrink=0.8)
        axes[0][column].set_title(name, fontsize="small")
    axes[0][0].set_ylabel("field")
    axes[1][0].set_ylabel("less the truth")
    figure.suptitle(f"{task.name}, {task.size} points an axis")
    return figure


def resolution(tasks: list[Task], rows: Own):
    """Error against the points of an axis, a column a task; the training grid is marked.

    Of the rollout or the field, and below, where there are frames, of each frame from true ones.
    """
    figure, axes = plt.subplots(2, len(tasks), figsize=(4 * len(tasks), 7), squeeze=False)
    names = list(dict.fromkeys(row.model for row, _ in rows))
    lines = {}
    for column, task in zip(axes.T, tasks, strict=True):
        own = [row for row, _ in rows if row.task == task.name]
        column[0].set_title(task.name)
        for panel, kind in zip(column, ("errors", "next_frame"), strict=True):
            if not getattr(own[0], kind):
                panel.set_axis_off()
                continue
            for row in own:
                errors = [getattr(row, kind)[str(n)] for n in task.sizes]
                i = names.index(row.model)  # there are ten colours
                style = {"color": f"C{i}", "marker": "os"[i // 10], "ls": ("-", "--")[i // 10]}
                (lines[row.model],) = panel.plot(task.sizes, errors, **style)
            panel.axvline(task.size, color="black", linestyle=":")
            panel.set(xlabel="points an axis", xscale="log", yscale="log")
            panel.set_xticks(task.sizes, map(str, task.sizes), minor=False)
            panel.xaxis.set_minor_locator(NullLocator())
    axes[0][0].set_ylabel("relative L2 of the rollout")
    axes[1][0].set_ylabel("relative L2 of one frame")
    figure.legend(lines.values(), lines.keys(), fontsize="small", loc="outside right center")
    return figure


def modes(task: Task, own: Own):
    """Damping and frequency of SS-NO's modes before and after training, per grid step."""
    path = next(path for row, path in own if row.model == "ssno")
    with np.load(path / "sample.npz") as arrays:
        layers = sorted(name.split("/", 1)[1] for name in arrays.files if "learnt/" in name)
        figure, axes = plt.subplots(
            1, len(layers), figsize=(3 * len(layers), 3.2), squeeze=False, sharex=True, sharey=True
        )
        for panel, layer in zip(axes[0], layers, strict=True):
            for when, colour, size in (("initial", "lightgrey", 9), ("learnt", "C0", 1)):
                memory, period = arrays[f"{when}/{layer}"].reshape(2, -1)
                frequency = np.maximum(2 * np.pi / period, 1e-4)
                panel.scatter(frequency, 1 / memory, s=size, color=colour, label=when)
            title = layer.removeprefix("net.").replace("convolutions.", "axis ")
            panel.set_title(title, fontsize="small")
            panel.set(xscale="log", yscale="log", xlabel="|frequency| step (at least 1e-4)")
    axes[0][0].set_ylabel("damping step")
    axes[0][-1].legend(fontsize="small")
    figure.suptitle(f"{task.name}: modes of SS-NO, step = one of the training grid")
    return figure
