# SPDX-License-Identifier: MIT
"""mypy in strict mode has nothing to say of the package, and much of a user who misreads it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("mypy", reason="mypy is not installed")
pytestmark = pytest.mark.xdist_group("mypy")  # the second run finds the cache of the first

MISUSE = """
from ssno_kernels import cross_selective_scan, selective_scan
from torch import Tensor

def misuse(x: Tensor) -> None:
    selective_scan(x, x, x, x, x, return_final_state=True).sum()
    cross_selective_scan(x, x, x, x, x, traversals=[(0, 1)])
    selective_scan(x, x, x, x)
"""
COMPLAINTS = {
    6: '"tuple[Tensor, Tensor]" has no attribute "sum"',
    7: 'List item 0 has incompatible type "tuple[int, int]"; expected "Traversal"',
    8: "No overload variant",
}


def mypy(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_package_passes_in_strict_mode():
    """With tests/typed_usage.py, which says what is to be inferred of the public functions."""
    run = mypy()
    assert run.returncode == 0, run.stdout + run.stderr


def test_misuse_does_not_pass(tmp_path):
    (tmp_path / "misuse.py").write_text(MISUSE)
    complaints = mypy(str(tmp_path / "misuse.py")).stdout
    for line, text in COMPLAINTS.items():
        assert any(f"misuse.py:{line}: error: {text}" in c for c in complaints.splitlines()), (
            complaints
        )
