# SPDX-License-Identifier: MIT
"""The README's example runs, and its tables name what the package has."""

from __future__ import annotations

import re
from pathlib import Path

from ssno_kernels import registry

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_example_runs():
    [code] = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["more"].shape == names["out"].shape
    assert names["delta"].grad.norm() > 0


def test_operator_table_is_that_of_the_registry():
    [columns] = re.findall(r"^\| operator \| (.*) \|$", README, re.MULTILINE)
    names = re.findall(r"`(\w+)`", columns)
    assert sorted(names) == sorted(registry.BACKENDS)
    for operator, backends in registry.OPERATORS.items():
        [row] = re.findall(rf"^\| `{operator}` \| (.*) \|$", README, re.MULTILINE)
        for name, cell in zip(names, row.split(" | "), strict=True):
            assert (cell == "yes") == (name in backends), (operator, name)
