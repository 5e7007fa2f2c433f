# SPDX-License-Identifier: MIT
"""Settings for every test: what runs a GPU's kernels without one, and poisoned allocations."""

import importlib.util
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # processes share the cores: do not spin

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # read when triton is first imported
    os.environ.setdefault("SSNO_HOST_CUDA", str(Path(__file__).parent / "host_cuda"))

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


@pytest.fixture(autouse=True, scope="session")
def language_patched_once_a_launch():
    """Triton's interpreter patches its language anew for every device function that a kernel calls.

    What a launch has patched stays so until it ends; to do it once saves a quarter of the time.
    """
    if os.environ.get("TRITON_INTERPRET") != "1" or importlib.util.find_spec("triton") is None:
        yield
        return
    from triton.runtime import interpreter

    patch, launch = interpreter._patch_lang, interpreter.GridExecutor.__call__
    patched: set[int] = set()

    def patch_once(function):
        module = id(function.__globals__)
        if module not in patched:
            patched.add(module)
            return patch(function)

    def launch_afresh(self, *arguments, **keywords):
        patched.clear()
        return launch(self, *arguments, **keywords)

    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch_once, launch_afresh
    yield
    interpreter._patch_lang, interpreter.GridExecutor.__call__ = patch, launch
