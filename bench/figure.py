# SPDX-License-Identifier: MIT
"""The figure of a run: throughput against length, one line an implementation, the limit above."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.lines import Line2D

from .rows import Result


def draw(path: Path, device: str, results: list[Result]) -> None:
    """One panel a mode; the shapes drawn are those of the commonest N and dtype."""
    timed = [r for r in results if r.seconds]
    kinds = [(r.operator, r.dtype, r.sizes["N"]) for r in timed]
    kind = max(kinds, key=kinds.count, default=None)
    timed = [r for r, k in zip(timed, kinds, strict=True) if k == kind]
    modes = list(dict.fromkeys(r.mode for r in timed)) or ["nothing was timed"]
    figure, panels = plt.subplots(
        1, len(modes), figsize=(6 * len(modes), 4.5), sharex=True, sharey=True, squeeze=False
    )
    lines = {}
    for panel, mode in zip(panels[0], modes, strict=True):
        lines |= _panel(panel, [r for r in timed if r.mode == mode], _colours(timed))
        panel.set(title=mode, xlabel="length L", xscale="log", yscale="log")
    panels[0][0].set_ylabel("elements (batch x channel x step) / s")
    figure.legend(lines.values(), lines.keys(), fontsize="small", loc="outside right center")
    if kind:
        figure.suptitle(f"{kind[0]}, N = {kind[2]}, {kind[1]}: {device}")
    figure.set_layout_engine("constrained")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _colours(rows: list[Result]) -> dict[str, str]:
    return {name: f"C{i}" for i, name in enumerate(dict.fromkeys(r.implementation for r in rows))}


def _panel(panel, rows: list[Result], colours: dict[str, str]) -> dict[str, Line2D]:
    """The lines of one panel by their names, each through the best shape of every length."""

    def line(points: list[tuple[int, float]], **style) -> Line2D:
        best = {length: max(y for x, y in points if x == length) for length, _ in points}
        return panel.plot(*zip(*sorted(best.items()), strict=True), **style)[0]

    lines = {}
    for name in dict.fromkeys(r.implementation for r in rows):
        own = [r for r in rows if r.implementation == name]
        points = [(r.sizes["L"], r.work.elements / r.seconds) for r in own]
        style = ":" if own[0].peer else "-"
        lines[name] = line(points, marker="o", color=colours[name], linestyle=style)
    limits = [(r.sizes["L"], r.work.elements / r.limit_seconds) for r in rows]
    if limits:
        lines["limit of the machine"] = line(limits, color="black", linestyle="--")
    return lines
