# SPDX-License-Identifier: MIT
"""The README's example runs, and its tables name what the package has."""

from __future__ import annotations

import re
from pathlib import Path

import ssno_kernels
from ssno_kernels import registry

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_examples_run():
    names: dict = {}
    for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(code, names)
    assert names["y"].shape == (1, 1, 64, 64)
    assert names["finer"].shape == (1, 1, 128, 128)
    assert sum(x.numel() for x in names["model"].parameters()) == 1_849_203
    assert names["more"].shape == names["out"].shape
    assert names["delta"].grad.norm() > 0


def test_table_of_functions_names_what_there_is():
    rows = re.findall(r"^\| (`[^|]*`) \| .* \| .*\|$", README.split("## Install")[0], re.MULTILINE)
    functions = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(registry.OPERATORS) < functions
    assert all(callable(getattr(ssno_kernels, name)) for name in functions)


def test_operator_table_is_that_of_the_registry():
    table = README.split("## Operators and backends")[1]
    [columns] = re.findall(r"^\| operator \| (.*) \|$", table, re.MULTILINE)
    names = re.findall(r"`(\w+)`", columns)
    assert sorted(names) == sorted(registry.BACKENDS)
    for operator, backends in registry.OPERATORS.items():
        [row] = re.findall(rf"^\| `{operator}` \| (.*) \|$", table, re.MULTILINE)
        for name, cell in zip(names, row.split(" | "), strict=True):
            assert (cell == "yes") == (name in backends), (operator, name)


def test_every_feature_has_its_test():
    table = README.split("## In PyTorch")[1].split("## ")[0]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", table)
    rows = [row for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 5 and all("::test_" in row for row in rows)
    for file, function in named:
        assert f"def {function}(" in (Path(__file__).parent / file).read_text(), (file, function)
