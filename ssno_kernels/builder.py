# SPDX-License-Identifier: MIT
"""What the extensions are built of, and how: two compiled binaries, one way to build them.

`CPU` needs a C++ compiler, `CUDA` beside it nvcc and a PyTorch with CUDA. `HostCuda` compiles the
sources of `CUDA` with the C++ compiler and a stand-in for the device (tests/host_cuda). All are
built against LibTorch's stable ABI, so that one binary serves every Python and torch >= 2.11. This
file is run by setup.py on its own.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch

_FLAGS = (
    *("-std=c++20", "-fPIC", "-fvisibility=hidden"),
    "-DTORCH_TARGET_VERSION=0x020b000000000000",  # torch 2.11
)
_OPTIMISED = (  # the instruction set is chosen per file and at run time, not here
    *("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math"),
    "-Wno-psabi",  # vectors wider than the baseline's registers never cross an ABI boundary
    "-Wno-unknown-pragmas",
)
_TORCH = Path(torch.__file__).parent
_DEFAULT_TARGETS = ("8.0", "9.0a", "10.0+PTX")


class BuildError(RuntimeError):
    """The extension cannot be compiled; the message is one sentence that says why."""


class Unit(NamedTuple):
    """One file to compile: the object's name, the source, and the command without these."""

    name: str
    source: Path
    command: list[str]


class Extension:
    """The CPU kernels, and what the other extensions change about them."""

    name, title = "_C", "CPU kernels"
    flags: tuple[str, ...] = (*_FLAGS, *_OPTIMISED)
    kernel_flags: tuple[str, ...] = ()  # of another compiler

    def missing(self) -> str | None:
        """Why it could not be loaded even if it were built."""
        return None

    def files(self, folder: Path) -> list[Path]:
        """All that the binary depends on."""
        return _files(folder, ("*.cpp", "*.h"), without=("cuda",))

    def target(self) -> str:
        """The devices that the binary is for, in its file's name."""
        return ""

    def units(self, folder: Path) -> list[Unit]:
        """The longest first: each instruction set of isa/, for the kernels of each operator."""
        command = [*compiler(), *self.flags, *_includes(folder)]
        isas = sorted(folder.glob("isa/*.cpp"))
        units = []
        for isa in isas:
            for header in sorted(
                path.relative_to(folder) for path in folder.glob("*/kernel_cpu.h")
            ):
                kernels = f'-DSSNO_KERNELS="{header.as_posix()}"'
                units.append(Unit(f"{header.parent}_{isa.stem}", isa, [*command, kernels]))
        for source in sorted({p for p in self.files(folder) if p.suffix == ".cpp"} - set(isas)):
            known = f"={self.source_hash(folder)}LL" if source.parent == folder else ""
            definition = f"-DSSNO_SOURCE_HASH{known}"
            units.append(Unit(_object_name(source, folder), source, [*command, definition]))
        return units

    def link(self) -> list[str]:
        return [*compiler(), "-shared"]

    def libraries(self) -> list[str]:
        return [f"-L{_TORCH / 'lib'}", "-ltorch_cpu", "-lc10"]

    def source_hash(self, folder: Path) -> int:
        """A number that changes whenever a source or a flag does; a binary carries its own."""
        digest = hashlib.sha256(" ".join((*self.flags, *self.kernel_flags)).encode())
        for path in self.files(folder):
            name = path.relative_to(folder) if path.is_relative_to(folder) else path.name
            digest.update(str(name).encode() + b"\0" + path.read_bytes())
        return int.from_bytes(digest.digest()[:7], "big")

    def built_name(self, folder: Path) -> str:
        """The name of the binary of these sources, without a suffix."""
        return f"{self.name}_{self.source_hash(folder):014x}"

    def build(self, folder: Path, target: Path) -> None:
        """Compile and link the sources into `target`, which appears whole or not at all."""
        units = self.units(folder)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=target.stem) as scratch:

            def compile_one(unit: Unit) -> str:
                made = f"{scratch}/{unit.name}.o"
                _execute([*unit.command, "-c", str(unit.source), "-o", made])
                return made

            with ThreadPoolExecutor(cores()) as pool:
                objects = list(pool.map(compile_one, units))
            linked = f"{scratch}/linked.so"
            _execute([*self.link(), *objects, *self.libraries(), "-o", linked])
            os.replace(linked, target)


class CudaExtension(Extension):
    """The CUDA kernels, by nvcc; their registration, by the C++ compiler."""

    name, title = "_C_cuda", "CUDA kernels"
    flags = (*_FLAGS, "-O2", "-DUSE_CUDA")
    kernel_flags = ("-O3", "-std=c++20", "-Xcompiler=-fPIC,-fvisibility=hidden")

    def missing(self) -> str | None:
        built_without = f"this PyTorch ({torch.__version__}) is built without CUDA"
        return built_without if torch.version.cuda is None else None

    def files(self, folder: Path) -> list[Path]:
        return _files(folder, ("*.cpp", "*.h", "*.cu"), without=("cpu", "isa/", "extension"))

    def target(self) -> str:
        return "".join(f"sm{_number(t)}_" for t in targets())

    def units(self, folder: Path) -> list[Unit]:
        kernels = [nvcc(), "--threads=0", *self.kernel_flags, *generated_code(), f"-I{folder}"]
        operators = [*compiler(), *self.flags, *_includes(folder)]
        commands = {".cu": kernels, ".cpp": operators}
        return [
            Unit(_object_name(p, folder), p, commands[p.suffix])
            for p in sorted(self.files(folder), key=lambda p: p.suffix != ".cu")
            if p.suffix in commands
        ]

    def link(self) -> list[str]:
        return [nvcc(), "-shared"]

    def libraries(self) -> list[str]:
        return [*super().libraries(), "-ltorch_cuda"]


class HostCudaExtension(Extension):
    """The CUDA kernels for CPU tensors, on the stand-in for a device that lies in a folder."""

    name, title = "_C_host_cuda", "CUDA kernels, for the host,"
    flags = (*_FLAGS, "-O1", "-DSSNO_HOST_CUDA")

    def __init__(self, device: str) -> None:
        self.device = Path(device)

    def missing(self) -> str | None:
        return None if self.device.is_dir() else f"SSNO_HOST_CUDA is {self.device}, no folder"

    def files(self, folder: Path) -> list[Path]:
        return CUDA.files(folder) + _files(self.device, ("host_*.cpp", "*.h"))

    def units(self, folder: Path) -> list[Unit]:
        command = [*compiler(), *self.flags, f"-I{self.device}", *_includes(folder), "-x", "c++"]
        sources = [p for p in self.files(folder) if p.suffix in (".cu", ".cpp")]
        return [Unit(f"{i}_{p.stem}", p, command) for i, p in enumerate(sources)]


CPU, CUDA = Extension(), CudaExtension()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def compiler() -> list[str]:
    named = os.environ.get("CXX")
    for words in [shlex.split(named)] if named else [["c++"], ["g++"], ["clang++"]]:
        if shutil.which(words[0]):
            return words
    sought = f"CXX={named}" if named else "c++, g++ or clang++"
    raise BuildError(f"no C++ compiler was found ({sought}) to compile the kernels with")


def nvcc() -> str:
    named = os.environ.get("CUDA_HOME")
    for folder in [f"{named}/bin"] if named else [os.environ.get("PATH"), "/usr/local/cuda/bin"]:
        if found := shutil.which("nvcc", path=folder):
            return found
    sought = f"CUDA_HOME={named}" if named else "on PATH, in /usr/local/cuda"
    where = "the CUDA toolkit has it, and CUDA_HOME names that one's folder"
    raise BuildError(f"nvcc was not found ({sought}) to compile the CUDA kernels with; {where}")


def targets() -> list[str]:
    """Compute capabilities as TORCH_CUDA_ARCH_LIST names them: "9.0a", "10.0+PTX"."""
    named = os.environ.get("TORCH_CUDA_ARCH_LIST")
    if named:
        return re.split(r"[;,\s]+", named.strip())
    if torch.cuda.is_available():
        found = {torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count())}
        return [f"{major}.{minor}" + "a" * (major == 9) for major, minor in sorted(found)]
    listed = subprocess.run([nvcc(), "--list-gpu-arch"], capture_output=True, text=True).stdout
    return [t for t in _DEFAULT_TARGETS if f"compute_{_number(t).rstrip('a')}\n" in listed]


def generated_code() -> list[str]:
    """nvcc's options for the targets; +PTX adds code that later devices can compile."""
    options = []
    for target in targets():
        number = _number(target)
        if not re.fullmatch(r"\d+[af]?", number):
            raise BuildError(f"TORCH_CUDA_ARCH_LIST names {target!r}; expected such as 9.0 or 9.0a")
        options.append(f"-gencode=arch=compute_{number},code=sm_{number}")
        if target.upper().endswith("+PTX"):
            options.append(f"-gencode=arch=compute_{number},code=compute_{number}")
    return options


def _number(target: str) -> str:
    return target.upper().removesuffix("+PTX").lower().replace(".", "")


def _files(folder: Path, patterns: tuple[str, ...], without: tuple[str, ...] = ()) -> list[Path]:
    found = (path for pattern in patterns for path in folder.rglob(pattern))
    return sorted(p for p in found if not any(w in str(p.relative_to(folder)) for w in without))


def _includes(folder: Path) -> list[str]:
    return [f"-I{folder}", "-isystem", str(_TORCH / "include")]


def _object_name(source: Path, folder: Path) -> str:
    return "_".join(source.relative_to(folder).with_suffix("").parts)


def _execute(command: list[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode != 0:
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        first = next((line for line in lines if re.search(r"\berror\b:", line)), lines[0])
        raise BuildError(f"the compiler {command[0]} failed: {first.strip()}")
