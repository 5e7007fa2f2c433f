# SPDX-License-Identifier: MIT
"""The report of a run: a table a task on the screen and as Markdown, a JSON file, figures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tabulate import tabulate

from . import figures
from .tasks import PUBLISHED, TASKS, Task


@dataclass
class Row:
    """A model trained on a task; errors are relative L2, the mean of samples and frames."""

    task: str
    model: str
    parameters: int
    epochs: int
    steps: int
    seconds: float  # of training
    losses: list[float]  # relative L2 of one step in training, the mean of every epoch
    errors: dict[str, float]  # of the rollout, by the points of an axis
    resampled: dict[str, float]  # the same, run on the training grid, fields resampled
    next_frame: dict[str, float]  # as errors, each frame from true ones; empty without frames
    by_frame: list[float]  # of the rollout on the training grid
    seed: int
    rate: float  # of learning, at first


def versions(packages: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def write(folder: Path, run: dict[str, Any], rows: list[tuple[Row, Path]]) -> None:
    """report.json, report.md and the figures, and the tables on the screen."""
    folder.mkdir(parents=True, exist_ok=True)
    content = run | {"rows": [finite(asdict(row)) for row, _ in rows]}
    (folder / "report.json").write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    text = "\n\n".join([heading(run), *tables(run, [row for row, _ in rows])])
    (folder / "report.md").write_text(text + "\n")
    drawn = figures.draw(folder, rows)
    print("\n" + text)
    print("\nwritten:", ", ".join(map(str, [folder / "report.md", folder / "report.json", *drawn])))


def finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: None says that a rollout diverged."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def heading(run: dict[str, Any]) -> str:
    packages = ", ".join(f"{k} {v}" for k, v in run["versions"].items() if v)
    return f"""\
{run["device"]}, {run["isa"]}; python {run["python"]}, {packages}; commit {run["commit"]};
{run["date"]}; load on the machine before: {run["busy"]}; `{run["command"]}`

- error at N: relative L2 on N points an axis, the mean of test samples and predicted frames; the
  model goes on from its own frames
- frame at N: the same, every frame predicted from true ones
- N by M: run on the training grid of M points, inputs and outputs resampled from N and to N
- one step: relative L2 of the last epoch's training steps
- paper: what the paper states for more data and 500 epochs"""


def tables(run: dict[str, Any], rows: list[Row]) -> list[str]:
    """Two a task: on the training grid, and on the others."""
    parts = []
    for name, used in run["settings"].items():
        task = next(t for t in TASKS if t.name == name)
        own = [row for row in rows if row.task == name]
        title = f"### {name}: {used['train']} samples to train with, {used['test']} to test with"
        parts += [title, _on_training_grid(task, own)]
        parts += [f"{name} on other grids:", _on_other_grids(task, own)]
    return parts


def _on_training_grid(task: Task, rows: list[Row]) -> str:
    published = dict(PUBLISHED.get(task.name, {}))
    headers = ["", "parameters", "rate", "epochs", "minutes", "one step"]
    headers += [f"error at {task.size}", "paper"]
    lines = [
        [
            row.model,
            f"{row.parameters:,}",
            f"{row.rate:g}",
            row.epochs,
            f"{row.seconds / 60:.1f}",
            number(row.losses[-1]),
            number(row.errors[str(task.size)]),
            number(published.pop(row.model, None)),
        ]
        for row in rows
    ]
    lines += [[model, *[""] * 6, number(error)] for model, error in published.items()]
    return tabulate(lines, headers, "github", disable_numparse=True)


def _on_other_grids(task: Task, rows: list[Row]) -> str:
    others = [str(n) for n in task.sizes if n != task.size]
    frames = [str(n) for n in sorted(task.sizes)] if task.rolls else []
    headers = ["", *(f"at {n}" for n in others), *(f"{n} by {task.size}" for n in others)]
    headers += [f"frame at {n}" for n in frames]
    lines = [
        [
            row.model,
            *(number(e[n]) for e in (row.errors, row.resampled) for n in others),
            *(number(row.next_frame[n]) for n in frames),
        ]
        for row in rows
    ]
    return tabulate(lines, headers, "github", disable_numparse=True)


def number(x: float | None) -> str:
    if x is None:
        return ""
    return f"{x:.4f}" if x < 10 else "diverges"
