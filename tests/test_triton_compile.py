# SPDX-License-Identifier: MIT
"""The Triton kernels compiled for NVIDIA devices, without one: registers, shared memory, variants.

A process for each target (`triton_compiler.py`) launches them through Triton's own front end,
stopped before the device would be needed, and answers with a table.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import triton_compiler
from triton_compiler import (
    ALIAS,
    ALIAS_CASES,
    CASES_OF,
    DAMPED_CASES,
    DAMPED_MAIN,
    MAIN,
    NO_SPILLS,
    resources,
)

pytestmark = pytest.mark.xdist_group("compiled by one process")

SHARED_LIMIT = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}


def test_resources_are_parsed():
    text = " Function k:\n  REG:96 STACK:8 SHARED:1024 LOCAL:16 CONSTANT[0]:664 TEXTURE:0"
    assert resources(text) == {"REG": 96, "STACK": 8, "LOCAL": 16}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """Per target: {"kernels": {case: {kernel: resources}}, "variants": ..., "squeezed": ...}."""
    pytest.importorskip("triton")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path_factory.mktemp("triton"))
    root = str(Path(__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([root, environment.get("PYTHONPATH", "")])
    workers = {
        target: subprocess.Popen(
            [sys.executable, triton_compiler.__file__, str(target)],
            env=environment,
            stdout=subprocess.PIPE,
        )
        for target in SHARED_LIMIT
    }
    answers = {target: worker.communicate(timeout=500)[0] for target, worker in workers.items()}
    assert all(worker.returncode == 0 for worker in workers.values())
    return {target: json.loads(answer) for target, answer in answers.items()}


@pytest.mark.parametrize(
    "target, case", [(target, case) for target, cases in CASES_OF.items() for case in cases]
)
def test_shared_memory_fits(compiled, target, case):
    kernels = compiled[target]["kernels"][case]
    # forward and backward; of a scan the chunk maps of each as well, and the carry
    assert len(kernels) == (2 if case in ALIAS_CASES else 5)
    for name, used in kernels.items():
        assert used["shared"] <= SHARED_LIMIT[target], f"{name}: {used}"


@pytest.mark.parametrize("case", NO_SPILLS)
@pytest.mark.parametrize("target", SHARED_LIMIT)
def test_nothing_spills(compiled, target, case):
    for name, used in compiled[target]["kernels"][case].items():
        assert used["STACK"] == used["LOCAL"] == 0, f"{name}: {used}"


@pytest.mark.parametrize("case", DAMPED_CASES)
@pytest.mark.parametrize("target", SHARED_LIMIT)
def test_damped_conv_fits_and_does_not_spill(compiled, target, case):
    """Every kernel that one forward and one backward call launch, N = 32, both directions."""
    kernels = compiled[target]["damped"][case]
    names = {name for name, _ in kernels}
    assert {*DAMPED_MAIN, "damped_conv_tables_kernel", "damped_conv_reduce_kernel"} <= names
    assert ("damped_conv_carry_kernel" in names) == ("segments" in case)
    for name, used in kernels:
        assert used["shared"] <= SHARED_LIMIT[target], f"{name}: {used}"
        assert used["STACK"] == used["LOCAL"] == 0, f"{name}: {used}"


def test_lengths_of_damped_conv_do_not_recompile(compiled):
    """Whatever B, H and L > 32: one variant where lines start on 16 elements, one where not."""
    first, *aligned, odd, odder = compiled[90]["damped_variants"]
    assert aligned == [first] * len(aligned)
    assert odd == odder


def test_spills_would_show(compiled):
    """The same kernel with a quarter of the registers."""
    assert compiled[90]["squeezed"]["STACK"] > 0


def test_sizes_and_strides_do_not_recompile(compiled):
    """One variant where the rows of a tensor start on 16 elements, one where they do not."""
    variants = compiled[90]["variants"]
    assert variants["aligned"] == dict.fromkeys(MAIN, 1)
    assert variants["all"] == dict.fromkeys(MAIN, 2)


def test_grids_do_not_recompile(compiled):
    """One variant where rows start on 16 elements, one where they do not, whatever H x W."""
    aligned, more_aligned, odd, more_odd = compiled[90]["grids"]
    assert aligned == more_aligned
    assert odd == more_odd


def test_sizes_of_the_alias_free_activation_do_not_recompile(compiled):
    """H x W, strides and padding by whole samples; narrow grids have a variant of their own."""
    assert compiled[90]["activations"] == [dict.fromkeys(ALIAS, 1)] * 4
