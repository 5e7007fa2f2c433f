# SPDX-License-Identifier: MIT
"""The most memory that a call holds beyond what was held before it."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import torch

_PROCESS = Path("/proc/self")


def peak(call: Callable[[], Any], device: str) -> tuple[Any, int]:
    """(what the call returns, peak extra bytes); the returned tensors count as extra."""
    gc.collect()
    if device != "cpu":
        torch.accelerator.synchronize()
        torch.accelerator.reset_peak_memory_stats()
        before = torch.accelerator.memory_allocated()
        result = call()
        torch.accelerator.synchronize()
        return result, torch.accelerator.max_memory_allocated() - before
    _return_free_memory()
    before = psutil.Process().memory_info().rss
    try:
        (_PROCESS / "clear_refs").write_text("5")  # Linux: the high-water mark starts again at rss
    except OSError:
        result, highest = _sampled(call)
    else:
        result = call()
        highest = _high_water_mark()
    return result, max(0, highest - before)


def _return_free_memory() -> None:
    """Make the allocator hand back what it keeps, so that reusing it counts as extra."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
    if trim is not None:
        trim(0)


def _high_water_mark() -> int:
    status = (_PROCESS / "status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def _sampled(call: Callable[[], Any]) -> tuple[Any, int]:
    """The result and the highest resident size that a look every millisecond sees."""
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(1e-3):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        result = call()
    finally:
        done.set()
        watcher.join()
    return result, max(*seen, process.memory_info().rss)
