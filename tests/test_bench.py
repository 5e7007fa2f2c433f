# SPDX-License-Identifier: MIT
# ruff: noqa: E402 (what bench/ imports is optional, and asked for first)
"""The benchmarks: a run end to end, no time for what is wrong, the data, the counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

for needed in ("pytest_benchmark", "matplotlib", "tabulate", "tqdm", "psutil", "cpuinfo"):
    pytest.importorskip(needed, reason="bench/requirements.txt is not installed")

from bench import cross_selective_scan, damped_conv, fields, memory
from bench.rows import OPERATORS, PROFILES, SMOKE, rows
from bench.selective_scan import BENCH
from ssno_kernels import registry
from ssno_kernels.ops.spec import BenchShape

ROOT = Path(__file__).parent.parent


def bench(out: Path, *arguments: str, prelude: str = "") -> tuple[int, dict]:
    """Exit status and JSON of a run of the smoke profile in a process of its own."""
    code = f"import sys\nfrom bench.__main__ import main\n{prelude}\nsys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--profile", "smoke", "--device", "cpu"]
    foreign = ("TRITON_INTERPRET", "PYTEST_XDIST_WORKER")  # of this process alone
    environment = {k: v for k, v in os.environ.items() if k not in foreign}
    done = subprocess.run(
        [*command, "--out", str(out), *arguments],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    reports = [p for p in out.glob("*.json") if "pytest-benchmark" not in p.name]
    assert len(reports) == 1, done.stdout + done.stderr
    return done.returncode, json.loads(reports[0].read_text())


def test_smoke_run_gives_table_json_and_figure(tmp_path):
    status, report = bench(tmp_path)
    assert status == 0
    assert {"device", "isa", "threads", "python", "compiler", "versions", "commit", "date"} < set(
        report
    )
    assert report["versions"]["torch"] == torch.__version__
    assert report["command"] == "python -m bench --profile smoke --device cpu"
    assert len(report["rows"]) == len(rows(PROFILES["smoke"], "cpu"))
    ours = [r for r in report["rows"] if r["operator"] == "selective_scan"]
    found = {(r["implementation"], r["mode"]): r for r in ours}
    for name in ("composite", "mambapy", "associative_scan"):
        for mode in ("forward", "forward+backward"):
            row = found[name, mode]
            assert row["status"] == "timed" and row["seconds"] > 0, row
            assert 0 < row["errors"]["out"] < 1e-5
            assert 0 < row["fraction_of_limit"] < 1
            assert row["times_faster_than"]["mambapy"] > 0
            assert row["extra_bytes"] >= 0
    fft = [r for r in report["rows"] if r["implementation"] == "fft"]
    assert fft and all(r["status"] == "timed" and r["errors"]["out"] < 1e-5 for r in fft)
    assert {"v_u", "v_delta", "v_A", "v_B", "v_C", "v_D", "v_delta_bias"} < set(
        found["mambapy", "forward+backward"]["errors"]
    )
    cpu, why_not = found["cpu", "forward"], registry.why_not("selective_scan", "cpu", "cpu")
    assert cpu["reason"] == why_not if why_not else cpu["status"] == "timed", cpu
    assert found["triton", "forward"]["status"] == "left out"
    (table,) = tmp_path.glob("*.md")
    assert "| composite" in table.read_text() and "x mambapy" in table.read_text()
    (picture,) = tmp_path.glob("*.png")
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 10_000


WRONG = """
from dataclasses import replace
from bench import rows
from bench.subjects import Implementation

def composite(inputs):
    return rows.OPERATORS[0].spec.function(**inputs, backend="composite")

def off_by_a_percent(inputs):
    return 1.01 * composite(inputs)

def wrong_gradient(inputs):
    u = inputs["u"]
    return composite(inputs | {"u": 1.001 * u - 0.001 * u.detach()})

def not_a_number(inputs):
    return composite(inputs) * float("nan")

def broken(inputs):
    raise RuntimeError("no such kernel")

PEERS = tuple(Implementation(f.__name__, f, peer=PEER)
              for f in (off_by_a_percent, wrong_gradient, not_a_number, broken))
rows.OPERATORS = (replace(rows.OPERATORS[0], peers=PEERS),)
"""


@pytest.mark.parametrize("peer", [True, False])
def test_a_wrong_implementation_gets_no_time(tmp_path, peer):
    status, report = bench(tmp_path, "--only", "tiny *", prelude=f"PEER = {peer}\n{WRONG}")
    assert status == (0 if peer else 1)
    found = {(r["implementation"], r["mode"]): r for r in report["rows"]}
    wrong = [(name, m) for name in ("off_by_a_percent", "not_a_number") for m in ("forward",)]
    for key in [*wrong, ("wrong_gradient", "forward+backward")]:
        assert found[key]["status"] == "wrong" and found[key]["seconds"] is None, found[key]
        assert found[key]["times_faster_than"] == {}
    assert "v_u is off by 1.0e-03" in found["wrong_gradient", "forward+backward"]["reason"]
    assert found["wrong_gradient", "forward"]["status"] == "timed"
    assert found["broken", "forward"]["status"] == "failed"
    assert "no such kernel" in found["broken", "forward"]["reason"]


@pytest.mark.parametrize("size, samples", [(16, 64), (32, 24)])
def test_the_data_is_what_its_note_says(size, samples):
    data = fields.darcy(size)
    assert data.shape == (samples, 2, size, size) and data.dtype == torch.float32
    assert set(data[:, 0].unique().tolist()) == {0.0, 1.0}
    assert 0.4 < data[:, 0].mean() < 0.6
    assert data[:, 1].isfinite().all() and 0.3 < data[:, 1].mean() < 0.5
    assert len(data.flatten(1).unique(dim=0)) == samples
    assert fields.DATA.stat().st_size < 200_000
    assert "MIT License" in fields.DATA.with_name("LICENSE.neuraloperator").read_text()


def test_a_field_is_smooth_and_noise_is_not():
    """From point to point white noise changes by sqrt(2) of its deviation, a field far less."""
    solution = fields.darcy(32)[:, 1]
    noise = torch.randn(solution.shape, generator=torch.Generator().manual_seed(0))
    change, of_noise = (x.diff(dim=-1).std() / x.std() for x in (solution, noise))
    assert change < 0.5 < of_noise


def test_inputs_are_four_traversals_of_one_field():
    inputs = fields.ss2d_inputs(SMOKE[0])
    height, width = fields.grid_of(SMOKE[0].sizes["L"])
    row, column, row_back, column_back = inputs["u"].chunk(4, dim=1)
    assert torch.equal(column.unflatten(-1, (width, height)).mT.flatten(-2), row)
    assert torch.equal(row_back, row.flip(-1)) and torch.equal(column_back, column.flip(-1))
    steps = torch.nn.functional.softplus(inputs["delta_bias"])
    assert steps.min() >= 1e-3 * (1 - 1e-5) and steps.max() <= 0.1 * (1 + 1e-5)


def test_work_counts_every_tensor_once():
    shape = SMOKE[0]
    inputs = fields.ss2d_inputs(shape)
    work = BENCH.work(shape, False)
    read = sum(inputs[k].nbytes for k in ("u", "delta", "B", "C"))
    assert work.bytes == read + inputs["u"].nbytes
    assert work.exponentials == work.elements * (shape.sizes["N"] + 1)
    both = BENCH.work(shape, True)
    assert both.bytes - work.bytes == 2 * read + inputs["u"].nbytes
    assert both.exponentials == 2 * work.exponentials


def test_work_of_a_grid_counts_every_tensor_once():
    shape = SMOKE[1]
    inputs = cross_selective_scan.inputs(shape)
    work = cross_selective_scan.work(shape, False)
    read = sum(inputs[k].nbytes for k in cross_selective_scan.ON_GRID)
    assert work.bytes == read + inputs["x"].nbytes
    assert work.elements == 4 * inputs["x"].numel()
    assert work.exponentials == work.elements * (shape.sizes["N"] + 1)
    both = cross_selective_scan.work(shape, True)
    assert both.bytes - work.bytes == 2 * read + inputs["x"].nbytes
    assert both.exponentials == 2 * work.exponentials


def test_peers_of_a_grid_scan_compute_the_same():
    inputs = cross_selective_scan.inputs(SMOKE[1])
    out, *others = (
        run(inputs) for run in (cross_selective_scan.permuted, cross_selective_scan.mambapy)
    )
    for other in others:
        assert other.shape == inputs["x"].shape
        torch.testing.assert_close(other, out, rtol=1e-4, atol=1e-5)


def test_work_of_a_convolution_is_the_lesser_of_states_and_lags():
    short, long = (
        damped_conv.work(BenchShape("", dict(B=1, D=1, N=8, L=n)), False) for n in (9, 99)
    )
    assert (short.fmas, long.fmas) == (2 * 9 * 5, 2 * 99 * 4 * 8)
    both = damped_conv.work(BenchShape("", dict(B=1, D=1, N=8, L=99)), True)
    assert (both.fmas, both.bytes) == (2 * 99 * (4 + 6) * 8, (2 + 3) * 99 * 4)


@pytest.mark.parametrize("sampled", [True, False])
def test_peak_memory_is_what_was_allocated(sampled, monkeypatch, tmp_path):
    if sampled:
        monkeypatch.setattr(memory, "_PROCESS", tmp_path / "absent")
    elif not Path("/proc/self/clear_refs").exists():
        pytest.skip("this system has no high-water mark that can be reset")
    result, extra = memory.peak(lambda: torch.ones(1 << 25).add_(1).sum(), "cpu")
    assert result == 1 << 26
    assert 0.9 * (1 << 27) < extra < 1.2 * (1 << 27)


@pytest.mark.parametrize("bench_of", OPERATORS, ids=lambda b: b.spec.name)
def test_every_bench_shape_can_be_made(bench_of):
    """Small stand-ins with the same groups, rows, states, gate and dtype as each shape."""
    for shape in bench_of.spec.bench_shapes:
        groups, rows = shape.sizes.get("G", 1), shape.sizes.get("rows", 1)
        first = shape.sizes.get("K", groups)  # of B: a grid has traversals, a sequence groups
        sizes = shape.sizes | dict(B=rows, D=2 * groups, L=24)
        inputs = bench_of.inputs(type(shape)(shape.name, sizes, shape.dtype, gated=shape.gated))
        x = next(iter(inputs.values()))
        assert x.shape[:2] == (1, 2 * groups) and x.dtype == shape.dtype
        assert x.numel() == sizes["B"] * sizes["D"] * sizes["L"]
        if "B" in inputs:
            assert inputs["B"].flatten(3).shape == (1, first, shape.sizes["N"], 24)
        assert ("z" in inputs) == shape.gated
        assert all(x.isfinite().all() for x in inputs.values() if isinstance(x, torch.Tensor))
