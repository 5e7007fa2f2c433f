# SPDX-License-Identifier: MIT
"""The compiled extension: found where an install built it, else compiled once at first use.

The extension registers its operators with PyTorch when it is loaded; it holds no Python module. It
is built against LibTorch's stable ABI, so that one binary serves every Python and torch >= 2.11.
That needs no more than a C++ compiler: the same two commands, compile and link, run from `setup.py`
and at first use. A binary's name holds the hash of its sources, so one that is stale is not found.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch

_PACKAGE = Path(__file__).parent
_FLAGS = (  # the instruction set is chosen per file and at run time, not here
    "-O3",
    "-std=c++20",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-Wno-psabi",  # vectors wider than the baseline's registers never cross an ABI boundary
    "-Wno-unknown-pragmas",
    "-DTORCH_TARGET_VERSION=0x020b000000000000",  # torch 2.11
)
_lock = threading.Lock()
_loaded: Path | None = None


class BuildError(RuntimeError):
    """The extension cannot be compiled; the message is one sentence that says why."""


def source_folder() -> Path | None:
    """csrc/ as it lies beside the package in a checkout, or inside it once installed."""
    for folder in (_PACKAGE / "_csrc", _PACKAGE.parent / "csrc"):
        if (folder / "extension.cpp").exists():
            return folder
    return None


def source_hash(folder: Path) -> int:
    """A number that changes whenever a source or a flag does; a binary carries its own."""
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for path in sorted((*folder.rglob("*.cpp"), *folder.rglob("*.h"))):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0" + path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "big")


def built_name(folder: Path) -> str:
    """The name of the binary of these sources, without a suffix."""
    return f"_C_{source_hash(folder):014x}"


def loaded_from() -> Path | None:
    """The binary in use, if one is loaded."""
    return _loaded


@cache
def why_not() -> str | None:
    """Load the extension if need be; None when it serves, else the reason why it does not."""
    with _lock:
        return None if _loaded else _find_or_build()


def _find_or_build() -> str | None:
    folder = source_folder()
    if folder is None:
        return "the sources of the compiled extension are missing from this install"
    for built in sorted(_PACKAGE.glob(f"{built_name(folder)}*.so")):
        if _load(built) is None:
            return None
    root = _cache_folder()
    target = root / f"ssno_kernels{built_name(folder)}_{platform.machine()}.so"
    try:
        if not target.exists():
            root.mkdir(parents=True, exist_ok=True)
            _build_once(folder, target)
    except BuildError as error:
        return str(error)
    except OSError as error:
        return (
            f"the cache folder {root} cannot be used ({error.strerror}); "
            "TORCH_EXTENSIONS_DIR names another"
        )
    return _load(target)


def _load(binary: Path) -> str | None:
    global _loaded
    try:
        torch.ops.load_library(binary)
    except OSError as error:
        return f"{binary} could not be loaded ({error})"
    _loaded = binary
    return None


def _cache_folder() -> Path:
    """Where PyTorch caches the extensions that it compiles at first use."""
    named = os.environ.get("TORCH_EXTENSIONS_DIR")
    if named:
        return Path(named)
    user = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(user).expanduser() / "torch_extensions"


def _build_once(folder: Path, target: Path) -> None:
    """Build unless another process just did; the system drops the lock of one that died."""
    import fcntl

    with open(target.with_suffix(".lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not target.exists():
            build(folder, target)


def build(folder: Path, target: Path) -> None:
    """Compile and link the C++ sources into `target`, which appears whole or not at all."""
    compiler = _compiler()
    torch_folder = Path(torch.__file__).parent
    includes = [f"-I{folder}", "-isystem", str(torch_folder / "include")]
    libraries = [f"-L{torch_folder / 'lib'}", "-ltorch_cpu", "-lc10"]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=target.stem) as scratch:

        def compile_one(unit: tuple[str, Path, str]) -> str:
            name, source, definition = unit
            target = f"{scratch}/{name}.o"
            _execute([*compiler, *_FLAGS, definition, *includes, "-c", str(source), "-o", target])
            return target

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            objects = list(pool.map(compile_one, _units(folder)))
        linked = f"{scratch}/linked.so"
        _execute([*compiler, "-shared", *objects, *libraries, "-o", linked])
        os.replace(linked, target)


def _units(folder: Path) -> list[tuple[str, Path, str]]:
    """What is compiled: (name, source, definition), the longest first.

    Each file of isa/ is one instruction set and is compiled once for the kernels of each operator.
    """
    kernels = sorted(path.relative_to(folder) for path in folder.glob("*/kernel_cpu.h"))
    units = [
        (f"{header.parent}_{isa.stem}", isa, f'-DSSNO_KERNELS="{header.as_posix()}"')
        for isa in sorted(folder.glob("isa/*.cpp"))
        for header in kernels
    ]
    for source in sorted(set(folder.rglob("*.cpp")) - set(folder.glob("isa/*.cpp"))):
        name = "_".join(source.relative_to(folder).with_suffix("").parts)
        known = f"={source_hash(folder)}LL" if source.parent == folder else ""
        units.append((name, source, f"-DSSNO_SOURCE_HASH{known}"))
    return units


def _compiler() -> list[str]:
    named = os.environ.get("CXX")
    for words in [shlex.split(named)] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(words[0]):
            return words
    sought = f"CXX={named}" if named else "c++, g++ or clang++"
    raise BuildError(f"no C++ compiler was found ({sought}) to compile the kernels with")


def _execute(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        first = next((line for line in lines if re.search(r"\berror\b:", line)), lines[0])
        raise BuildError(f"the C++ compiler {command[0]} failed: {first.strip()}")
