# SPDX-License-Identifier: MIT
"""The pytest-benchmark suite; `python -m bench` runs it with the plugin that holds the rows."""

from __future__ import annotations

from .rows import Row
from .workbench import Workbench


def test_row(row: Row, workbench: Workbench, benchmark):
    """Right first, then timed; a failing row is one of our own kernels being wrong or broken."""
    result = workbench.measure(row, benchmark)
    benchmark.extra_info |= {"row": str(row), "errors": result.errors}
    assert result.peer or result.status not in ("wrong", "failed"), result.reason
