# SPDX-License-Identifier: MIT
"""The compiled extension: found where an install built it, else compiled once at first use.

The extension registers its operators with PyTorch when it is loaded; it holds no Python module. It
is built against LibTorch's stable ABI, so that one binary serves every Python and torch >= 2.11.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import torch

_PACKAGE = Path(__file__).parent
STABLE_ABI = "0x020b000000000000"  # torch 2.11


def source_folder() -> Path | None:
    """csrc/ as it lies beside the package in a checkout, or inside it once installed."""
    for folder in (_PACKAGE / "_csrc", _PACKAGE.parent / "csrc"):
        if (folder / "extension.cpp").exists():
            return folder
    return None


def sources(folder: Path) -> list[Path]:
    """The C++ files of the CPU extension."""
    return sorted(folder.rglob("*.cpp"))


def source_hash(folder: Path) -> int:
    """A number that changes whenever a source file does; a binary carries that of its sources."""
    digest = hashlib.sha256()
    for path in sorted((*folder.rglob("*.cpp"), *folder.rglob("*.h"))):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


def compile_arguments(folder: Path) -> list[str]:
    """Compiler flags; the instruction set is chosen per file and at run time, not here."""
    return [
        "-O3",
        "-std=c++20",
        "-fvisibility=hidden",
        "-ffp-contract=fast",
        "-fno-math-errno",
        "-fno-trapping-math",
        "-Wno-psabi",  # vectors wider than the baseline's registers never cross an ABI boundary
        "-Wno-unknown-pragmas",
        f"-DTORCH_TARGET_VERSION={STABLE_ABI}",
        f"-DSSNO_SOURCE_HASH={source_hash(folder)}LL",
    ]


@cache
def why_not() -> str | None:
    """Load the extension if need be; None when it serves, else the reason why it does not."""
    folder = source_folder()
    stale = None
    for built in sorted(_PACKAGE.glob("_C*.so")):
        try:
            torch.ops.load_library(built)
        except OSError as error:
            stale = f"{built.name} could not be loaded ({error})"
            continue
        return None
    if folder is None:
        return stale or "the compiled extension and its sources are missing from this install"
    return _compile(folder)


def _compile(folder: Path) -> str | None:
    """Compile just in time into torch's cache of extensions; None, or the reason of the failure."""
    return "not built"
