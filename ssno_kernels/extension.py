# SPDX-License-Identifier: MIT
"""The compiled extensions: found where an install built them, else compiled once at first use.

An extension registers its operators with PyTorch when it is loaded; it holds no Python module. A
binary's name holds the hash of its sources, so one that is stale is not found.
"""

from __future__ import annotations

import os
import platform
import sys
import threading
from functools import cache
from pathlib import Path

import torch

from . import builder

_PACKAGE = Path(__file__).parent


def source_folder() -> Path | None:
    """csrc/ as it lies beside the package in a checkout, or inside it once installed."""
    for folder in (_PACKAGE / "_csrc", _PACKAGE.parent / "csrc"):
        if (folder / "extension.cpp").exists():
            return folder
    return None


class Loader:
    """Finds or builds one extension and loads it, once."""

    def __init__(self, extension: builder.Extension) -> None:
        self.extension = extension
        self.loaded_from: Path | None = None
        """The binary in use, if one is loaded."""
        self._lock = threading.Lock()
        self._reasons: list[str | None] = []

    def why_not(self) -> str | None:
        """Load the extension if need be; None when it serves, else the reason why it does not."""
        with self._lock:
            if not self._reasons:
                self._reasons.append(self._find_or_build())
            return self._reasons[0]

    def _find_or_build(self) -> str | None:
        if missing := self.extension.missing():
            return missing
        folder = source_folder()
        if folder is None:
            return "the sources of the compiled extension are missing from this install"
        name = self.extension.built_name(folder)
        for built in sorted(_PACKAGE.glob(f"{name}*.so")):
            if self._load(built) is None:
                return None
        root = _cache_folder()
        try:
            target = root / f"ssno_kernels{name}_{self.extension.target()}{platform.machine()}.so"
            if not target.exists():
                root.mkdir(parents=True, exist_ok=True)
                _build_once(self.extension, folder, target)
        except builder.BuildError as error:
            return str(error)
        except OSError as error:
            return (
                f"the cache folder {root} cannot be used ({error.strerror}); "
                "TORCH_EXTENSIONS_DIR names another"
            )
        return self._load(target)

    def _load(self, binary: Path) -> str | None:
        try:
            torch.ops.load_library(binary)
        except OSError as error:
            return f"{binary} could not be loaded ({error})"
        self.loaded_from = binary
        return None


cpu = Loader(builder.CPU)
_cuda = Loader(builder.CUDA)


def host_cuda() -> str | None:
    """The folder of a stand-in for a device (tests/host_cuda), if CUDA kernels run on one.

    They are then compiled for the host and serve CPU tensors, for tests.
    """
    return os.environ.get("SSNO_HOST_CUDA") or None


def cuda() -> Loader:
    """The CUDA kernels, for the device or for the host."""
    device = host_cuda()
    return _host_cuda(device) if device else _cuda


@cache
def _host_cuda(device: str) -> Loader:
    return Loader(builder.HostCudaExtension(device))


def _cache_folder() -> Path:
    """Where PyTorch caches the extensions that it compiles at first use."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    if named:
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "torch_extensions"


def _build_once(extension: builder.Extension, folder: Path, target: Path) -> None:
    """Build unless another process just did; the system drops the lock of one that died.

    One line says what makes this call take minutes.
    """
    import fcntl

    with open(target.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not target.exists():
            files = len(extension.units(folder))
            print(
                f"ssno_kernels: the {extension.title} are compiled into {target} now, {files} "
                f"files, {builder.cores()} at a time; this takes minutes, once",
                file=sys.stderr,
            )
            extension.build(folder, target)
