# SPDX-License-Identifier: MIT
"""The CUDA kernels compiled for devices that are not there: no spill, and loops as they should be.

A new operator adds its files by being there, and rows for its inner loops to LOOPS.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest
import sass

from ssno_kernels import builder

pytestmark = pytest.mark.xdist_group("nvcc")
TARGETS = ("sm_80", "sm_90a", "sm_100")
LAUNCHERS = (  # have no kernel
    "damped_conv/kernel_cuda.cu",
    "selective_scan/kernel_cuda.cu",
    "selective_scan/layout_cuda.cu",
)
SOURCES = sorted(
    {path.relative_to(sass.CSRC).as_posix() for path in sass.CSRC.rglob("*.cu")} - {*LAUNCHERS}
)


@dataclass(frozen=True)
class Loops:
    """The loops of one kernel for sm_90a that have `least` FMAs or more, and what they may cost."""

    title: str
    source: str
    kernel: str  # a pattern of its mangled name
    least: int
    work: str  # of one iteration
    names: tuple[str, ...]  # of the loops, in the order of the code
    most: tuple[int, ...]  # instructions of each

    def found(self) -> list[Counter]:
        return sass.loops(sass.compiled(self.source, "sm_90a"), self.kernel, self.least)


_SAME = "12ELi2EEES4_E"  # links of 12 taps, rate 2, both
LOOPS = (
    Loops(
        "alias_free_activation forward, up = down = 2",
        "alias_free_activation/kernel_cuda_fwd.cu",
        f"forward_kernelIfNS.*{_SAME}",
        90,
        "8 coarse or 16 fine samples",
        ("expand", "expand and activate", "reduce"),
        (185, 270, 195),
    ),
    Loops(
        "alias_free_activation backward, up = down = 2",
        "alias_free_activation/kernel_cuda_bwd.cu",
        f"backward_kernelIfNS.*{_SAME}",
        90,
        "8 coarse or 16 fine samples",
        ("expand x", "expand x, differentiate", "expand v_out", "expand v_out, multiply", "reduce"),
        (185, 345, 310, 360, 195),
    ),
    Loops(
        "damped_conv forward or transposed, float32",
        "damped_conv/kernel_cuda_f32.cu",
        "apply_kernel",
        64,
        "4 steps of a product; 16 modes",
        ("take in", "modes", "read out", "within chunks", "take in", "modes", "read out"),
        (85, 370, 155, 155, 85, 310, 155),
    ),
    Loops(
        "damped_conv sums, float32",
        "damped_conv/kernel_cuda_f32.cu",
        "sums_kernel",
        100,
        "4 steps of a product; 16 modes",
        ("pairs of samples", "modes", "take in u", "take in v"),
        (155, 820, 175, 175),
    ),
    Loops(
        "damped_conv forward or transposed, tf32",
        "damped_conv/kernel_cuda_tf32.cu",
        "apply_kernel",
        4,
        "8 steps of a product; 16 modes; 4 chunks",
        (
            *("take in", "modes", "round a line", "states", "read out"),
            *("within chunks", "take in", "modes", "round a line", "states", "read out"),
        ),
        (30, 350, 40, 75, 40, 40, 30, 290, 40, 75, 40),
    ),
    Loops(
        "damped_conv sums, tf32",
        "damped_conv/kernel_cuda_tf32.cu",
        "sums_kernel",
        8,
        "8 chunks or steps of a product; 16 modes; 4 chunks",
        (
            *("pairs of samples", "pairs of float32", "modes", "take in u", "take in v"),
            *("sums over chunks", "states", "states, kept"),
        ),
        (40, 140, 900, 70, 70, 310, 40, 50),
    ),
    Loops(
        "selective_scan forward, N > 4",
        "selective_scan/kernel_cuda_f32.cu",
        "scan_forwardINS0_4KindIffLb0ELi8ELi2E",
        200,
        "8 steps x 8 states",
        ("steps",),
        (430,),
    ),
    Loops(
        "selective_scan chunk ends, N > 4",
        "selective_scan/kernel_cuda_f32.cu",
        "scan_endsINS0_4KindIffLb0ELi8ELi2E",
        90,
        "4 steps x 8 states",
        ("steps",),
        (165,),
    ),
    Loops(
        "selective_scan backward, N > 4",
        "selective_scan/kernel_cuda_f32.cu",
        "scan_backwardINS0_4KindIffLb0ELi4ELi4E",
        430,
        "8 steps x 4 states",
        ("there and back", "with B or C constant", "constant sums"),
        (680, 900, 1600),
    ),
)


@pytest.fixture(scope="module", autouse=True)
def nvcc():
    """Everything compiled at once, as many at a time as there are cores."""
    try:
        builder.nvcc()
    except builder.BuildError as error:
        pytest.skip(str(error))
    units = [(source, target) for source in SOURCES for target in TARGETS]
    with ThreadPoolExecutor(builder.cores()) as pool:
        list(pool.map(lambda unit: sass.compiled(*unit), units))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("source", SOURCES)
def test_nothing_spills(source, target):
    kernels = sass.resources(sass.compiled(source, target))
    assert kernels
    for name, used in kernels.items():
        assert used.stack == used.spilled == 0, f"{name}: {used}"


SPILLS = """
#include "ssno/cuda.h"
SSNO_KERNEL(1024, 2) too_many_numbers(float* p) {
    float x[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) x[i] = p[threadIdx.x + 1024 * i];
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 64; ++i) p[threadIdx.x * 64 + 63 - i] = x[i] * x[(i + 7) % 64];
}
"""


def test_spills_would_show(tmp_path):
    """64 numbers of a thread that has 32 registers."""
    (tmp_path / "x.cu").write_text(SPILLS)
    command = [builder.nvcc(), *builder.CUDA.kernel_flags, f"-I{sass.CSRC}", "-arch=sm_90a"]
    command += ["-Xptxas=-v", "-cubin", str(tmp_path / "x.cu"), "-o", str(tmp_path / "x.cubin")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    (tmp_path / "x.txt").write_text(run.stderr)
    [used] = sass.resources(tmp_path / "x.cubin").values()
    assert used.spilled and used.stack


@pytest.mark.parametrize("row", LOOPS, ids=lambda row: row.title)
def test_inner_loops(row):
    """What they cost, and that none of them waits for memory beyond the block."""
    if sass.cuobjdump() is None:
        pytest.skip("cuobjdump is not installed (it comes with triton)")
    found = row.found()
    assert len(found) == len(row.names), found
    for loop, name, most in zip(found, row.names, row.most, strict=True):
        assert loop["all"] <= most, f"{name}: {dict(loop)}"
        assert not loop["local"] and not loop["ATOM"], f"{name}: {dict(loop)}"
