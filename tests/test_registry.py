# SPDX-License-Identifier: MIT
"""The choice of a backend: what forces it, what wins, and what is said when one cannot serve."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import harness
import pytest
import torch

from ssno_kernels import BackendError, registry, use_backend

CPU = torch.device("cpu")


@pytest.fixture
def no_device(monkeypatch):
    """CPU tensors, and no stand-in for a device: `cuda` cannot serve."""
    monkeypatch.delenv("SSNO_HOST_CUDA", raising=False)


each_operator = pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)


@each_operator
@pytest.mark.parametrize("backend", registry.BACKENDS)
def test_backend_serves(spec, backend):
    """Skips with the reason where it does not, or fails if SSNO_REQUIRE names it."""
    harness.need(spec.name, backend)


@each_operator
@pytest.mark.parametrize("force", ["argument", "context", "environment"])
def test_forced_backend_that_cannot_serve(spec, force, monkeypatch, no_device):
    """Every way of forcing a backend reaches the call and raises."""
    inputs = harness.first_core(spec)
    with pytest.raises(BackendError, match=rf"backend='cuda' cannot serve {spec.name}.*these can"):
        if force == "argument":
            spec.function(**inputs, backend="cuda")
        elif force == "context":
            with use_backend("cuda"):
                spec.function(**inputs)
        else:
            monkeypatch.setenv("SSNO_BACKEND", "cuda")
            spec.function(**inputs)


@each_operator
def test_device_that_a_kernel_does_not_serve(spec):
    inputs = harness.to_device(harness.first_core(spec), "meta")
    with pytest.raises(BackendError, match="the cpu backend serves CPU tensors, not meta tensors"):
        spec.function(**inputs, backend="cpu")


@each_operator
def test_argument_wins_over_context_over_environment(spec, monkeypatch, no_device):
    monkeypatch.setenv("SSNO_BACKEND", "cuda")
    inputs = harness.first_core(spec)
    with use_backend("composite"):
        spec.function(**inputs)
        with pytest.raises(BackendError):
            spec.function(**inputs, backend="cuda")
        with use_backend("reference"):
            assert registry.choose(spec.name, CPU, None) == "reference"
            assert registry.choose(spec.name, CPU, "composite") == "composite"
        assert registry.choose(spec.name, CPU, None) == "composite"
    with pytest.raises(BackendError):
        spec.function(**inputs)


def test_context_ends_with_an_exception():
    with pytest.raises(KeyError), use_backend("cuda"):
        raise KeyError
    assert registry.choose("selective_scan", CPU, None) != "cuda"


def test_context_is_of_its_thread():
    chosen = []
    with use_backend("reference"):
        thread = threading.Thread(
            target=lambda: (
                chosen.append(registry.choose("selective_scan", CPU, "composite"))
                or chosen.append(registry._forced.stack)
            )
        )
        thread.start()
        thread.join()
    assert chosen == ["composite", []]


@pytest.mark.parametrize("source", ["use_backend", "SSNO_BACKEND", "backend"])
def test_unknown_backend_names_its_source(source, monkeypatch):
    with pytest.raises(ValueError, match=f"{source} is 'fast'; expected one of cuda, triton, cpu"):
        if source == "use_backend":
            with use_backend("fast"):
                pass
        elif source == "SSNO_BACKEND":
            monkeypatch.setenv("SSNO_BACKEND", "fast")
            registry.choose("selective_scan", CPU, None)
        else:
            registry.choose("selective_scan", CPU, "fast")


@each_operator
def test_fall_to_composite_warns_once(spec, monkeypatch):
    monkeypatch.setattr(registry.extension.cpu, "why_not", lambda: "the extension is left out")
    monkeypatch.delenv("SSNO_BACKEND", raising=False)
    registry._warn_slow.cache_clear()
    inputs = harness.first_core(spec)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            spec.function(**inputs)
    ours = [w for w in caught if "composite" in str(w.message)]
    assert len(ours) == 1
    assert ours[0].filename == __file__, "the warning shows the line of the caller"
    assert "cpu: the extension is left out" in str(ours[0].message)
    if "triton" in registry.OPERATORS[spec.name]:
        assert "triton: " in str(ours[0].message)


@each_operator
def test_interpreter_serves_only_when_forced(spec, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setattr(registry.extension.cpu, "why_not", lambda: None)
    monkeypatch.delenv("SSNO_BACKEND", raising=False)
    assert registry.choose(spec.name, CPU, None) == "cpu"


def test_missing_backend_skips_or_fails(monkeypatch):
    monkeypatch.setattr(registry, "why_not", lambda *_: "not on this machine")
    monkeypatch.setattr(harness, "REQUIRED", {"cpu"})
    with pytest.raises(pytest.skip.Exception, match="not on this machine"):
        harness.need("selective_scan", "triton")
    with pytest.raises(pytest.fail.Exception, match="SSNO_REQUIRE names cpu"):
        harness.need("selective_scan", "cpu")


@pytest.mark.parametrize(
    "required, message",
    [("triton", "SSNO_REQUIRE names triton, but"), ("tritn", "SSNO_REQUIRE names {'tritn'}")],
)
def test_require_is_read_from_the_environment(required, message):
    """A run of one case without a GPU and without the interpreter, where triton cannot serve."""
    hidden = {"SSNO_REQUIRE": required, "TRITON_INTERPRET": "0", "CUDA_VISIBLE_DEVICES": ""}
    run = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider"),
            *("-k", "backend_serves and triton", "tests/test_registry.py"),
        ],
        cwd=Path(__file__).parents[1],
        env=os.environ | hidden,
        capture_output=True,
        text=True,
    )
    assert run.returncode not in (0, 5), run.stdout
    assert message in run.stdout + run.stderr
