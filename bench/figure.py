# SPDX-License-Identifier: MIT
"""The figure of a run: throughput against length, one line an implementation, the limit above."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from .rows import Result


def draw(path: Path, device: str, results: list[Result]) -> None:
    """One panel a mode; the shapes drawn are those of the commonest N and dtype."""
    timed = [r for r in results if r.seconds]
    kinds = [(r.operator, r.dtype, r.sizes["N"]) for r in timed]
    kind = max(kinds, key=kinds.count, default=None)
    timed = [r for r, k in zip(timed, kinds, strict=True) if k == kind]
    modes = list(dict.fromkeys(r.mode for r in timed)) or ["nothing was timed"]
    figure, panels = plt.subplots(
        1,
        len(modes),
        figsize=(6 * len(modes), 4.5),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for panel, mode in zip(panels[0], modes, strict=True):
        _panel(panel, [r for r in timed if r.mode == mode])
        panel.set(title=mode, xlabel="length L", xscale="log", yscale="log")
    panels[0][0].set_ylabel("elements (batch x channel x step) / s")
    panels[0][-1].legend(fontsize="small", loc="center left", bbox_to_anchor=(1, 0.5))
    if kind:
        figure.suptitle(f"{kind[0]}, N = {kind[2]}, {kind[1]}: {device}")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _panel(panel, rows: list[Result]) -> None:
    """Lines through the best shape of each length."""

    def line(points: list[tuple[int, float]], **style) -> None:
        best = {length: max(y for x, y in points if x == length) for length, _ in points}
        panel.plot(*zip(*sorted(best.items()), strict=True), **style)

    for name in dict.fromkeys(r.implementation for r in rows):
        own = [r for r in rows if r.implementation == name]
        points = [(r.sizes["L"], 1e9 / r.ns_per_element) for r in own]
        line(points, marker="o", label=name, linestyle=":" if own[0].peer else "-")
    limits = [(r.sizes["L"], 1e9 / r.ns_per_element * r.seconds / r.limit_seconds) for r in rows]
    if limits:
        line(limits, color="black", linestyle="--", label="limit of the machine")
