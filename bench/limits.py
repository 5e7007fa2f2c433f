# SPDX-License-Identifier: MIT
"""What this machine can do at most: exponentials, multiply-adds and bytes in a second."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from ssno_kernels import extension

from .subjects import Work

_COPIED = 1 << 28  # bytes: eight times a large last-level cache
_CACHED = 1 << 16  # floats for each thread: they stay in its own cache
_ON_GPU = 1 << 22  # floats: enough to fill any GPU
_CHAIN = 128
_MATRIX = 1536
_MILLISECONDS = 300


@dataclass(frozen=True)
class Rates:
    """Measured with all threads; `bytes` counts what is read and what is written."""

    exponentials: float
    fmas: float
    bytes: float
    measured_by: str

    def best(self, other: Rates) -> Rates:
        """The higher of each: a rate that something else on the machine slowed is no limit."""
        return Rates(
            max(self.exponentials, other.exponentials),
            max(self.fmas, other.fmas),
            max(self.bytes, other.bytes),
            self.measured_by,
        )

    def limit(self, work: Work) -> tuple[float, str]:
        """The least time for the work, and which of the three rates sets it."""
        return max(
            (work.exponentials / self.exponentials, "exp"),
            (work.fmas / self.fmas, "fma"),
            (work.bytes / self.bytes, "copy"),
        )


def measure(device: str) -> Rates:
    """The rates of this machine now: by our own loops where they are built, else by PyTorch's."""
    if (
        device == "cpu"
        and extension.cpu.why_not() is None
        and hasattr(torch.ops.ssno_kernels, "cpu_rates")
    ):
        every = [torch.ops.ssno_kernels.cpu_rates(_MILLISECONDS // 3) for _ in range(3)]
        rates = torch.stack(every).amax(dim=0).tolist()
        return Rates(*rates, "the kernels' own exponential, in tight loops")
    return _measure_by_torch(device)


def _measure_by_torch(device: str) -> Rates:
    """PyTorch's exp2 in cache, a float32 matrix product, and a copy between large tensors."""
    square = torch.rand(_MATRIX, _MATRIX, device=device)
    large = torch.rand(_COPIED // 8, device=device)  # it and its copy are 2^28 bytes together
    product, copy = torch.empty_like(square), torch.empty_like(large)
    tf32, torch.backends.cuda.matmul.allow_tf32 = torch.backends.cuda.matmul.allow_tf32, False
    rates = Rates(
        _exponentials_by_torch(device),
        _MATRIX**3 / _fastest(lambda: torch.mm(square, square, out=product), device),
        _COPIED / _fastest(lambda: copy.copy_(large), device),
        "PyTorch's exp2, mm and copy_",
    )
    torch.backends.cuda.matmul.allow_tf32 = tf32
    return rates


def _exponentials_by_torch(device: str) -> float:
    """On a CPU an operation on cached values; on a GPU that would time its memory, so many in one
    kernel, which PyTorch makes of a chain of operations when it compiles it."""
    if device == "cpu":
        x = torch.rand(_CACHED * torch.get_num_threads())
        result = torch.empty_like(x)
        return x.numel() / _fastest(lambda: torch.exp2(x, out=result), device)
    x, compiled = torch.rand(_ON_GPU, device=device), torch.compile(_chain)
    compiled(x)
    return _CHAIN * x.numel() / _fastest(lambda: compiled(x), device)


def _chain(x: torch.Tensor) -> torch.Tensor:
    for _ in range(_CHAIN):
        x = torch.exp2(-x)
    return x


def _fastest(call: Callable[[], object], device: str) -> float:
    """The shortest time of one call, in seconds, over a third of a second of calls."""
    best = float("inf")
    end = time.perf_counter() + _MILLISECONDS / 1000
    while time.perf_counter() < end:
        start = time.perf_counter()
        call()
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return best


def synchronise(device: str) -> None:
    """Wait for the device; a CPU has done its work when a call returns."""
    if device != "cpu":
        torch.accelerator.synchronize()


def now(device: str) -> float:
    """Seconds on a clock, once the device has done what was asked of it."""
    synchronise(device)
    return time.perf_counter()
