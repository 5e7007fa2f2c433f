# SPDX-License-Identifier: MIT
"""Settings for every test: the interpreter for Triton without a GPU, and poisoned allocations."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported

import pytest


@pytest.fixture(autouse=True)
def poisoned_allocations():
    """Fill every uninitialised tensor with NaN, so that an output left unwritten shows."""
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]
