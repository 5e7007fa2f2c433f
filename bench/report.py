# SPDX-License-Identifier: MIT
"""The report of a run: a table on the screen and as Markdown, a JSON file, a figure."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from . import figure
from .limits import Rates
from .rows import Result
from .targets import Target


def compare(results: list[Result], rates: Rates) -> None:
    """Fill in what a time comes to: beside the limit, and beside every peer of the same case."""
    for row in results:
        if row.seconds is None:
            continue
        row.ns_per_element = 1e9 * row.seconds / row.work.elements
        row.gb_per_s = 1e-9 * row.work.bytes / row.seconds
        row.limit_seconds, row.limit_by = rates.limit(row.work)
        row.fraction_of_limit = row.limit_seconds / row.seconds
        row.times_faster_than = {
            peer.implementation: peer.seconds / row.seconds
            for peer in results
            if peer.peer
            and peer.seconds
            and (peer.operator, peer.shape, peer.mode) == (row.operator, row.shape, row.mode)
        }


def write(stem: Path, run: dict[str, Any], results: list[Result], reached: list[Target]) -> None:
    """STEM.json, STEM.md and STEM.png, and the table on the screen."""
    rates = asdict(run["rates"])
    content = run | {
        "rates": rates,
        "rows": [asdict(r) for r in results],
        "targets": [asdict(t) for t in reached],
    }
    Path(f"{stem}.json").write_text(json.dumps(content, indent=1) + "\n")
    text = "\n\n".join([heading(run, rates), tables(results), target_table(reached)])
    Path(f"{stem}.md").write_text(text.rstrip() + "\n")
    figure.draw(Path(f"{stem}.png"), run["device"], results)
    print("\n" + text.rstrip())
    print(f"\nwritten: {stem}.md, {stem}.json, {stem}.png")


def heading(run: dict[str, Any], rates: dict[str, Any]) -> str:
    """What was measured on, and how to read the tables."""
    versions = ", ".join(f"{k} {v}" for k, v in run["versions"].items() if v)
    return f"""\
{run["device"]}, {run["isa"]}; python {run["python"]}, {versions}; commit {run["commit"]};
{run["date"]}; load on the machine before: {run["busy"]}; `{run["command"]}`

Limits, by {rates["measured_by"]}: {rates["exponentials"] / 1e9:.2f} G exponentials/s,
{rates["fmas"] / 1e9:.1f} G multiply-adds/s, {rates["bytes"] / 1e9:.1f} GB/s copied.

- of limit: the least time by those rates over the time taken, and which rate it is
- extra: peak memory beyond what was held before the call, and that over inputs and output
- error: the largest relative error of the output and the gradients against float64
- x NAME: how many times faster than NAME"""


def tables(results: list[Result]) -> str:
    """A table for every shape and mode; then why some rows have no time."""
    cases: dict[tuple[str, str, str], list[Result]] = {}
    for r in results:
        cases.setdefault((r.operator, r.shape, r.mode), []).append(r)
    reasons = list(dict.fromkeys(r.reason for r in results if r.seconds is None))
    parts = []
    for (operator, shape, mode), rows in cases.items():
        sizes = ", ".join(f"{k} = {v}" for k, v in rows[0].sizes.items())
        title = f"### {operator}, {shape}, {mode}: {sizes}, {rows[0].dtype}"
        parts.append(f"{title}\n\n{_table(rows, reasons)}")
    if reasons:
        notes = "\n".join(f"{i}. {reason}" for i, reason in enumerate(reasons, 1))
        parts.append(f"### Why rows have no time\n\n{notes}")
    return "\n\n".join(parts)


def _table(rows: list[Result], reasons: list[str]) -> str:
    peers = [r.implementation for r in rows if r.peer and r.seconds]
    headers = ["", "time", "rounds", "ns/element", "GB/s", "of limit", "extra", "error"]
    lines = []
    for r in rows:
        error = f"{r.error:.1e}" if r.errors else ""
        if r.seconds is None:
            lines.append(
                [r.implementation, f"{r.status} ({1 + reasons.index(r.reason)})", *[""] * 5, error]
            )
            continue
        lines.append(
            [
                r.implementation,
                _milliseconds(r.seconds),
                r.rounds,
                f"{r.ns_per_element:.3g}",
                f"{r.gb_per_s:.3g}",
                f"{r.fraction_of_limit:.3f} {r.limit_by}",
                f"{r.extra_bytes / 2**20:.1f} MiB, {r.extra_over_inputs_and_output:.2f}",
                error,
                *(f"{r.times_faster_than[p]:.3g}" for p in peers),
            ]
        )
    headers += [f"x {p}" for p in peers]
    return tabulate(lines, headers, "github", disable_numparse=True)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.{0 if seconds >= 1 else 2}f} ms"


def target_table(reached: list[Target]) -> str:
    if not reached:
        return ""
    words = {True: "reached", False: "NOT reached", None: "-"}
    lines = [[t.name, t.wanted, t.measured, words[t.reached]] for t in reached]
    return tabulate(lines, ["target", "wanted", "measured", ""], "github", disable_numparse=True)
