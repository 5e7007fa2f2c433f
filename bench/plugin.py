# SPDX-License-Identifier: MIT
"""The pytest plugin of the suite: gives it the rows and the workbench, and shows a progress bar."""

from __future__ import annotations

import sys

import pytest
from tqdm import tqdm

from .rows import Row
from .workbench import Workbench


class BenchPlugin:
    """Hands out the rows of one run, in their order."""

    def __init__(self, rows: list[Row], workbench: Workbench):
        self.rows, self._workbench = rows, workbench
        self._watched = sys.stderr.isatty()
        self._bar = tqdm(total=len(rows), unit="row", mininterval=0.1 if self._watched else 15)

    def pytest_generate_tests(self, metafunc) -> None:
        metafunc.parametrize("row", self.rows, ids=str)

    @pytest.fixture
    def workbench(self) -> Workbench:
        return self._workbench

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._bar.set_description_str(
            nodeid[nodeid.index("[") + 1 : -1][:60].ljust(60), refresh=self._watched
        )

    def pytest_runtest_logfinish(self) -> None:
        self._bar.update()

    def pytest_report_teststatus(self, report):
        """No letters between the bar's updates; the report that follows says all."""
        return report.outcome, "", ""

    def pytest_sessionfinish(self) -> None:
        self._bar.close()
