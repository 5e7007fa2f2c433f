# SPDX-License-Identifier: MIT
"""`python -m bench`: check every operator against its reference, time it, report."""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from . import report
from .environment import environment, slug
from .plugin import BenchPlugin
from .rows import PROFILES, rows
from .targets import targets
from .workbench import Workbench

SUITE = Path(__file__).with_name("suite.py")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="quick")
    parser.add_argument("--out", type=Path, default=Path("bench/out"), help="folder of the report")
    parser.add_argument(
        "--only", default="*", help="pattern of row names, e.g. '*level1*forward *'"
    )
    parser.add_argument("--backends", default="*", help="comma-separated implementations to time")
    parser.add_argument("--device", choices=("cpu", "cuda"))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a profile; 0 unless one of our own backends was wrong or broke."""
    options = parse(arguments)
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    profile = PROFILES[options.profile]
    chosen = rows(profile, device, options.only, options.backends)
    if not chosen:
        print("no row has a name that --only and --backends match", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    started = datetime.datetime.now(datetime.timezone.utc)
    run = environment(device, profile.name, started)
    stem = options.out / f"{slug(device)}-{started:%Y%m%d-%H%M%S}"
    workbench = Workbench(profile, device)
    raw = stem.with_name(f"{stem.name}.pytest-benchmark.json")
    status = pytest.main(
        [
            str(SUITE),
            "-qqs",
            "--tb=no",  # the report says what is wrong
            "--no-header",
            "--no-summary",
            "--override-ini=addopts=",
            "-pno:cacheprovider",
            "-Wignore::pytest_benchmark.logger.PytestBenchmarkWarning",
            "--benchmark-quiet",
            f"--benchmark-json={raw}",
        ],
        plugins=[BenchPlugin(chosen, workbench)],
    )
    if status not in (0, 1) or len(workbench.results) != len(chosen):
        done = f"{len(workbench.results)} of {len(chosen)} rows"
        print(f"pytest ended after {done}; `pytest {SUITE}` shows why", file=sys.stderr)
        return int(status) or 1
    results = workbench.results
    report.compare(results, workbench.rates)
    reached = targets(results, device) if profile.name != "smoke" else []
    run |= {"rates": workbench.rates}
    report.write(stem, run, results, reached)
    for r in results:
        if not r.peer and r.status in ("wrong", "failed"):
            print(f"{r.status}: {r.shape} {r.mode} {r.implementation}: {r.reason}", file=sys.stderr)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
