# SPDX-License-Identifier: MIT
"""The numbers the package promises for the CPU, each held against what was measured."""

from __future__ import annotations

import operator
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .rows import Result

LEVEL_1 = "mambano-64-level1"  # batch 16; the quick profile has batch 4 of it
NARROW = "long-narrow"
LENGTH_65536 = "field-256"
FORWARD, BOTH = "forward", "forward+backward"


@dataclass(frozen=True)
class Target:
    """One promise; `reached` is None where nothing was measured, and `measured` says why."""

    name: str
    wanted: str
    measured: str
    reached: bool | None


def targets(results: list[Result], device: str) -> list[Target]:
    """Every target of the CPU kernels, from the rows of one run."""
    if device != "cpu":
        return []
    names = {r.shape for r in results}
    level = LEVEL_1 if LEVEL_1 in names else f"{LEVEL_1}-b4"
    sequences = (r for r in results if r.operator == "selective_scan")
    rows = {(r.shape, r.mode, r.implementation): r for r in sequences}

    def cpu(shape: str, mode: str) -> Result | None:
        return rows.get((shape, mode, "cpu"))

    def faster(mode: str, peer: str) -> Callable[[], float | None]:
        return lambda: cpu(level, mode).times_faster_than.get(peer)

    def narrow() -> float:
        return cpu(NARROW, FORWARD).ns_per_element / cpu(level, FORWARD).ns_per_element

    return [
        _target(
            f"{level}, forward: times the reference loop", ">=", 200, faster(FORWARD, "reference")
        ),
        _target(f"{level}, forward: times mambapy", ">=", 120, faster(FORWARD, "mambapy")),
        _target(f"{level}, {BOTH}: times mambapy", ">=", 80, faster(BOTH, "mambapy")),
        _target(
            f"{level}, forward: fraction of the limit",
            ">=",
            0.5,
            lambda: cpu(level, FORWARD).fraction_of_limit,
        ),
        _target(f"{NARROW}, forward: time per element over {level}'s", "<=", 1.3, narrow),
        _target(
            f"{level}, {BOTH}: peak extra memory over inputs and output",
            "<=",
            1.5,
            lambda: cpu(level, BOTH).extra_over_inputs_and_output,
        ),
        _target(
            f"{LENGTH_65536}: float32 error of out against float64 at L = 65536",
            "<",
            1e-5,
            lambda: cpu(LENGTH_65536, FORWARD).errors.get("out"),
        ),
        _target("import ssno_kernels beyond torch: seconds", "<", 0.3, _import_seconds),
        *_of_cross_selective_scan([r for r in results if r.operator == "cross_selective_scan"]),
        *_of_damped_conv([r for r in results if r.operator == "damped_conv"]),
    ]


def _of_cross_selective_scan(results: list[Result]) -> list[Target]:
    """For every shape of MambaNO: times permuting and the others, and what is held in memory."""
    extra = {(r.shape, r.mode, r.implementation): r.extra_bytes for r in results}
    wanted = []
    for r in results:
        name, times = f"{r.operator}, {r.shape}, {r.mode}", r.times_faster_than
        if r.implementation != "cpu" or not r.shape.startswith("mambano"):
            continue
        if r.mode == FORWARD:
            wanted.append((f"{name}: times reference", ">=", 50, times.get("reference")))
            continue
        wanted.append((f"{name}: times permute", ">=", 1.5, times.get("permute")))
        wanted.append((f"{name}: times mambapy", ">=", 20, times.get("mambapy")))
        permute = extra.get((r.shape, r.mode, "permute"))
        if r.extra_bytes and permute:
            what = f"{name}: peak extra memory over permute's"
            wanted.append((what, "<=", 1 / 3, r.extra_bytes / permute))
            more, delta = _beyond_results(r)
            what = f"{name}: extra beyond the results over a (B, K, D, *grid) tensor"
            wanted.append((what, "<", 1, more / delta))
    return [_target(*what, lambda value=value: value) for *what, value in wanted]


def _beyond_results(r: Result) -> tuple[int, int]:
    """Extra bytes of a call of `cross_selective_scan` less those of its output and gradients on the
    grid, and the bytes of a full delta."""
    batch, channels, length, states, count, rank = (r.sizes[k] for k in "BDLNKR")
    size = batch * length * getattr(torch, r.dtype).itemsize
    results = 2 * channels + count * (2 * states + rank)  # out, v_x, v_B, v_C, v_delta
    return r.extra_bytes - results * size, count * channels * size


def _of_damped_conv(results: list[Result]) -> list[Target]:
    """For every shape that the run has: times the FFT convolution, memory, error at L = 65536."""
    wanted = []
    for r in results:
        length, name = r.sizes["L"], f"{r.shape}, {r.mode}"
        if r.implementation != "cpu":
            continue
        if length <= 512 or length >= 4096:
            bound = 5 if length <= 512 else 30
            wanted.append((f"{name}: times fft", ">=", bound, r.times_faster_than.get("fft")))
        extra = r.extra_over_inputs_and_output
        wanted.append((f"{name}: peak extra memory over inputs and output", "<=", 1.2, extra))
        if length == 65536:
            what = f"{name}: float32 error against float64 at L = 65536"
            wanted.append((what, "<", 1e-5, r.error))
    return [_target(*what, lambda value=value: value) for *what, value in wanted]


_HOLDS = {">=": operator.ge, "<=": operator.le, "<": operator.lt}


def _target(name: str, relation: str, bound: float, value: Callable[[], float | None]) -> Target:
    wanted = f"{relation} {bound:g}"
    try:
        measured = value()
    except (AttributeError, TypeError):  # a row that this run does not have, or that has no time
        measured = None
    if measured is None:
        return Target(name, wanted, "not measured in this run", None)
    return Target(name, wanted, f"{measured:.3g}", _HOLDS[relation](measured, bound))


def _import_seconds() -> float:
    code = (
        "import time, torch; start = time.perf_counter(); import ssno_kernels; "
        "print(time.perf_counter() - start)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)
