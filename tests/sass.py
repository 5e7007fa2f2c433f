# SPDX-License-Identifier: MIT
"""What nvcc makes of a kernel file: registers, spills, and the instructions of its loops by pipe.

`python tests/sass.py` prints the table of bench/NOTES.md.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ssno_kernels import builder, extension

CSRC = Path(__file__).parents[1] / "csrc"
PIPES = {
    "FMA": "FFMA|FMUL|FADD|DFMA|DMUL|DADD|HMMA|FFMA2",
    "MUFU": "MUFU",
    "LDS": "LDS|LDSM",
    "STS": "STS",
    "LDG": "LDG|LD|LDGSTS",
    "STG": "STG|ST",
    "SHFL": "SHFL",
    "ATOM": "ATOM|ATOMG|ATOMS|RED|REDG",
    "local": "LDL|STL",
}


@dataclass(frozen=True)
class Resources:
    """Of one kernel."""

    registers: int
    stack: int
    spilled: int


def cuobjdump() -> str | None:
    """The disassembler: nvcc's, or the one in Triton's wheel."""
    if found := shutil.which("cuobjdump"):
        return found
    try:
        from triton import knobs
    except ImportError:
        return None
    return knobs.nvidia.cuobjdump.path


def compiled(source: str, target: str) -> Path:
    """The cubin of a file of csrc for one target, compiled if no source has changed since not.

    What ptxas said lies beside it, as .txt.
    """
    command = [builder.nvcc(), *builder.CUDA.kernel_flags, f"-I{CSRC}", "-Xptxas=-v", "-cubin"]
    digest = hashlib.sha256(repr((command, source, target)).encode())
    for path in (*sorted(CSRC.rglob("*.h")), CSRC / source):
        digest.update(path.read_bytes())
    folder = extension._cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    cubin = folder / f"ssno_kernels_{digest.hexdigest()[:14]}_{target}.cubin"
    if not cubin.exists():
        made = cubin.with_suffix(".new")
        arguments = [f"-arch={target}", str(CSRC / source), "-o", str(made)]
        run = subprocess.run([*command, *arguments], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        cubin.with_suffix(".txt").write_text(run.stderr)
        made.rename(cubin)
    return cubin


def resources(cubin: Path) -> dict[str, Resources]:
    """By the kernels' mangled names."""
    found = {}
    for part in cubin.with_suffix(".txt").read_text().split("Compiling entry function '")[1:]:
        stack, stores, loads = re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", part
        ).groups()
        registers = re.search(r"Used (\d+) registers", part)[1]
        found[part.partition("'")[0]] = Resources(
            int(registers), int(stack), int(stores) + int(loads)
        )
    return found


def loops(cubin: Path, kernel: str, least: int) -> list[Counter]:
    """The loops of the one kernel whose mangled name matches, those with `least` FMAs or more.

    Each as its instructions by pipe and in all, those of loops within it left out; in the order of
    the code.
    """
    command = [cuobjdump(), "-sass", str(cubin)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    parts = [p for p in text.split("Function : ")[1:] if re.search(kernel, p.partition("\n")[0])]
    assert len(parts) == 1, f"{len(parts)} kernels match {kernel}"
    pattern = r"/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)([^;]*);"
    code = [(int(a, 16), name, rest) for a, name, rest in re.findall(pattern, parts[0])]
    spans = set()
    for address, name, rest in code:
        goal = re.search(r"0x([0-9a-f]+)", rest)
        if name == "BRA" and goal and int(goal[1], 16) < address:
            spans.add((int(goal[1], 16), address))
    found = []
    for begin, end in sorted(spans):
        inner = [s for s in spans if begin <= s[0] and s[1] <= end and s != (begin, end)]
        count = Counter()
        for address, name, _ in code:
            if begin <= address <= end and not any(b <= address <= e for b, e in inner):
                count["all"] += 1
                for pipe, names in PIPES.items():
                    count[pipe] += re.fullmatch(names, name) is not None
        if count["FMA"] >= least:
            found.append(count)
    return found


if __name__ == "__main__":
    from test_cuda_static import LOOPS

    pipes = ("all", *(pipe for pipe in PIPES if pipe != "local"))
    print("| kernel, loop | work | " + " | ".join(pipes) + " |")
    print("|---" * (2 + len(pipes)) + "|")
    for row in LOOPS:
        for loop, name in zip(row.found(), row.names, strict=True):
            cells = (f"{loop[pipe]}" for pipe in pipes)
            print(f"| {row.title}, {name} | {row.work} | " + " | ".join(cells) + " |")
