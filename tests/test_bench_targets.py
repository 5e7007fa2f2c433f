# SPDX-License-Identifier: MIT
# ruff: noqa: E402 (what bench/ imports is optional, and asked for first)
"""The targets of the benchmarks: reached, not reached, or not measured."""

from __future__ import annotations

import pytest

for needed in ("pytest_benchmark", "matplotlib", "tabulate", "tqdm", "psutil", "cpuinfo"):
    pytest.importorskip(needed, reason="bench/requirements.txt is not installed")

from bench.limits import Rates
from bench.report import compare
from bench.rows import PROFILES, Result, result_of, rows
from bench.subjects import Work
from bench.targets import LEVEL_1, NARROW, targets


def _row(shape: str, mode: str, implementation: str, seconds: float, peer: bool) -> Result:
    example = rows(PROFILES["smoke"], "cpu")[0]
    result = result_of(example)
    result.shape, result.mode, result.implementation = shape, mode, implementation
    result.seconds, result.peer = seconds, peer
    result.work = Work(elements=1000, bytes=1, exponentials=500, fmas=1)
    return result


def test_targets_say_reached_or_not_or_not_measured():
    results = [
        _row(LEVEL_1, "forward", "cpu", 1.0, False),
        _row(LEVEL_1, "forward", "mambapy", 119.0, True),
        _row(LEVEL_1, "forward", "reference", 201.0, True),
        _row(NARROW, "forward", "cpu", 1.2, False),
    ]
    compare(results, Rates(1000.0, 1e9, 1e9, "made up"))
    reached = {t.name: t.reached for t in targets(results, "cpu")}
    assert reached[f"{LEVEL_1}, forward: times the reference loop"] is True
    assert reached[f"{LEVEL_1}, forward: times mambapy"] is False
    assert reached[f"{LEVEL_1}, forward: fraction of the limit"] is True
    assert reached[f"{NARROW}, forward: time per element over {LEVEL_1}'s"] is True
    assert reached[f"{LEVEL_1}, forward+backward: times mambapy"] is None


def test_targets_of_a_grid_scan():
    results = [
        _row("mambano-x", "forward+backward", "cpu", 1.0, False),
        _row("mambano-x", "forward+backward", "permute", 1.6, True),
        _row("mambano-x", "forward+backward", "mambapy", 19.0, True),
        _row("mambano-x", "forward", "cpu", 1.0, False),
        _row("other", "forward", "cpu", 1.0, False),
    ]
    for result, extra in zip(results, (40_000, 120_000, 0, 0, 0), strict=True):
        result.operator, result.extra_bytes = "cross_selective_scan", extra
        result.sizes = dict(B=1, D=8, L=64, N=4, K=4, R=1)
    compare(results, Rates(1000.0, 1e9, 1e9, "made up"))
    found = {
        t.name: t.reached for t in targets(results, "cpu") if "grid" in t.name or "-x" in t.name
    }
    both, one = (f"cross_selective_scan, mambano-x, {m}: " for m in ("forward+backward", "forward"))
    assert found == {
        f"{both}times permute": True,
        f"{both}times mambapy": False,
        f"{both}peak extra memory over permute's": True,
        f"{both}extra beyond the results over a (B, K, D, *grid) tensor": False,
        f"{one}times reference": None,
    }


def test_targets_of_a_convolution_go_by_its_length():
    results = [
        _row("line", "forward", "cpu", 1.0, False),
        _row("line", "forward", "fft", 20.0, True),
    ]
    for result in results:
        result.operator, result.extra_over_inputs_and_output = "damped_conv", 0.5
    for length, reached in ((512, True), (4096, False)):
        for result in results:
            result.sizes = {"L": length}
        compare(results, Rates(1000.0, 1e9, 1e9, "made up"))
        found = {t.name: t.reached for t in targets(results, "cpu")}
        assert found["line, forward: times fft"] is reached
        assert found["line, forward: peak extra memory over inputs and output"] is True
