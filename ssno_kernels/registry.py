# SPDX-License-Identifier: MIT
"""What a backend is, why it may not serve, and which one serves a call.

An operator asks :func:`choose` for the name of a backend and runs its own implementation of that
name. Whether a backend can serve depends on the device of the tensors and on what is installed, and
is the same question for every operator; the answer is ``None`` (yes) or a sentence (why not).
"""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar

import torch

from . import extension

BACKENDS = ("cuda", "triton", "cpu", "composite", "reference")
"""All backends, the order of preference first; `reference` is never chosen by itself."""

OPERATORS: dict[str, tuple[str, ...]] = {
    "selective_scan": ("cuda", "triton", "cpu", "composite", "reference"),
    "cross_selective_scan": ("cuda", "triton", "cpu", "composite", "reference"),
    "damped_conv": ("triton", "cpu", "composite", "reference"),
    "alias_free_activation": ("cuda", "triton", "cpu", "composite", "reference"),
}
"""The backends each operator implements, in the order of preference."""

Reasons = tuple[tuple[str, str], ...]
"""Backends that cannot serve, and why not."""

_TRITON_DEVICES = ("cuda", "xpu")  # a ROCm device calls itself "cuda" in PyTorch


Function = TypeVar("Function", bound=Callable[..., object])


def _constant_when_traced(function: Function) -> Function:
    """torch.compiler.assume_constant_result, but for its import of the compiler (0.7 s)."""
    marked: Any = function
    marked._dynamo_marked_constant = True
    return function


class _Forced(threading.local):
    """The backends forced by the `use_backend` blocks this thread is in, the innermost last."""

    def __init__(self) -> None:
        self.stack: list[str] = []


_forced = _Forced()


class BackendError(RuntimeError):
    """A forced backend cannot serve; the message says why and what would serve."""


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Force one backend for every operator called inside the ``with`` block, in this thread.

    A forced backend that cannot serve a call raises :class:`BackendError` with its reason. The
    ``backend=`` argument of a call wins over the innermost block, and that over ``SSNO_BACKEND``.
    """
    _check_name(name, "use_backend")
    _forced.stack.append(name)
    try:
        yield
    finally:
        _forced.stack.pop()


def interpreting() -> bool:
    """Whether Triton kernels run in Triton's interpreter, and so on CPU tensors."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1"


@cache
def _triton_missing() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "triton is not installed (pip install 'ssno_kernels[triton]')"
    if interpreting():
        triton, numpy = (
            tuple(int(n) for n in version(name).split(".")[:2]) for name in ("triton", "numpy")
        )
        if triton < (3, 7) and numpy >= (2, 4):
            return "the interpreter of triton before 3.7 fails with numpy 2.4 and later"
    return None


def _cuda_why_not(device: str, forced: bool) -> str | None:
    if extension.host_cuda() and device == "cpu":
        # a simulator, as triton's interpreter is
        return extension.cuda().why_not() if forced else "cuda kernels on the host serve if forced"
    if extension.host_cuda() or device != "cuda":
        served = "CPU tensors (SSNO_HOST_CUDA)" if extension.host_cuda() else "CUDA tensors"
        return f"cuda serves {served} here, not {device} tensors"
    return extension.cuda().why_not()


@_constant_when_traced
def why_not(operator: str, backend: str, device: str, forced: bool = True) -> str | None:
    """Why `backend` cannot serve `operator` on tensors of `device`; None if it can."""
    if backend not in OPERATORS[operator]:
        return f"{operator} has no {backend} backend in this version"
    if backend in ("reference", "composite"):
        return None
    if backend == "cpu":
        if device != "cpu":
            return f"the cpu backend serves CPU tensors, not {device} tensors"
        return extension.cpu.why_not()
    if backend == "triton":
        if missing := _triton_missing():
            return missing
        if device in _TRITON_DEVICES and not interpreting():
            return None
        if device == "cpu" and interpreting():
            # a simulator, thousands of times slower than the device it simulates
            return None if forced else "triton's interpreter serves only when forced"
        served = (
            "CPU tensors (TRITON_INTERPRET=1)" if interpreting() else "CUDA, ROCm and XPU tensors"
        )
        return f"triton serves {served} here, not {device} tensors"
    return _cuda_why_not(device, forced)


@_constant_when_traced
def _from_environment() -> str | None:
    name = os.environ.get("SSNO_BACKEND") or None
    if name is not None:
        _check_name(name, "SSNO_BACKEND")
    return name


@_constant_when_traced
def preferred(operator: str, device: str, cannot: Reasons = ()) -> tuple[str, str]:
    """The backend chosen where none is forced, and why those preferred to it do not serve."""
    reasons: list[str] = []
    for name in OPERATORS[operator]:
        reason = why_not(operator, name, device, forced=False) or dict(cannot).get(name)
        if reason is None:
            return name, "; ".join(reasons)
        reasons.append(f"{name}: {reason}")
    raise AssertionError("the composite backend serves every device")


@cache
def _warn_slow(operator: str, reasons: str) -> None:
    warnings.warn(
        f"{operator} runs as plain PyTorch operations (backend 'composite'), many times slower "
        f"than a kernel. {reasons}. This is said once.",
        RuntimeWarning,
        stacklevel=6,  # the line that calls the operator, over `autocasts`
    )


@_constant_when_traced
def _automatic(operator: str, device: str, cannot: Reasons) -> str:
    name, reasons = preferred(operator, device, cannot)
    if name == "composite":
        _warn_slow(operator, reasons)
    return name


def choose(operator: str, device: torch.device, backend: str | None, cannot: Reasons = ()) -> str:
    """Name the backend that serves this call; :class:`BackendError` if a forced one cannot.

    `cannot` says which backends cannot serve the arguments of this call, and why.
    """
    forced = backend or (_forced.stack[-1] if _forced.stack else None) or _from_environment()
    if forced is None:
        return _automatic(operator, device.type, cannot)
    _check_name(forced, "backend")
    reason = why_not(operator, forced, device.type) or dict(cannot).get(forced)
    if reason is not None:
        able = [
            b
            for b in OPERATORS[operator]
            if b not in dict(cannot) and why_not(operator, b, device.type) is None
        ]
        raise BackendError(
            f"backend={forced!r} cannot serve {operator}: {reason}; these can: {', '.join(able)}"
        )
    return forced


def _check_name(name: str, source: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"{source} is {name!r}; expected one of {', '.join(BACKENDS)}")
