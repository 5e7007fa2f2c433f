# SPDX-License-Identifier: MIT
"""The harness that runs CUDA kernels on the host: right kernels run, wrong ones are named as such.

`host_cuda/probes.cu` holds the kernels. That each operator's kernels are right is tested where all
backends are; here, under AddressSanitizer and UndefinedBehaviorSanitizer as well.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ssno_kernels import builder

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def probes(tmp_path_factory):
    """The program that runs one probe."""
    try:
        compiler = builder.compiler()
    except builder.BuildError as error:
        pytest.skip(str(error))
    program = tmp_path_factory.mktemp("probes") / "probes"
    folder = ROOT / "tests" / "host_cuda"
    command = [
        *compiler,
        *("-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-DSSNO_HOST_CUDA"),
        *(f"-I{ROOT / 'csrc'}", f"-I{folder}", "-x", "c++"),
        *(str(folder / name) for name in ("probes.cu", "host_cuda.cpp")),
    ]
    subprocess.run([*command, "-o", str(program)], check=True)
    return program


def run(program: Path, kernel: str, blocks=1, threads=64, shared_bytes=256):
    command = [program, kernel, *map(str, (blocks, threads, shared_bytes))]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10)
    return result.returncode, result.stdout


@pytest.mark.parametrize(
    "kernel, expected",
    [
        ("sum", [2016] + 63 * [0]),
        ("rotate", [32 * (i // 32) + (i + 1) % 32 for i in range(64)]),
        ("shuffle", [i if i in (31, 63) else i + 1 for i in range(64)]),
        ("copy", list(range(63, -1, -1))),
    ],
)
def test_right_kernels_run(probes, kernel, expected):
    code, text = run(probes, kernel)
    assert code == 0, text
    assert [float(x) for x in text.split()] == expected


def test_blocks_have_their_own_shared_memory(probes):
    code, text = run(probes, "sum", blocks=3)
    assert code == 0, text
    assert [float(x) for x in text.split()[:3]] == [2016, 2016 + 64**2, 2016 + 2 * 64**2]


@pytest.mark.parametrize(
    "kernel, message",
    [
        ("overwrite", "race: byte 0 .* is read by thread 39 at .* and written by thread 40 at .*"),
        ("two_writers", "race: byte 0 .* is written by thread 0 at .* and written by thread 1 at"),
        (
            "warp_after_warp",
            "race: byte 0 .* is written by thread 0 at .* and read by thread 63 at",
        ),
        (
            "shuffle_for_barrier",
            "race: byte 120 .* written by thread 30 at .* and read by thread 31",
        ),
        ("sum_without_barrier", r"byte 128 .* is read before it is written, at probes.cu:\d+"),
        ("rotate_without_barrier", "byte 4 of shared memory is read before it is written"),
        ("copy_without_wait", "byte 252 of shared memory is read before it is written"),
        ("unwritten", "byte 0 of shared memory is read before it is written"),
        ("beyond", "byte 256 of 256 of shared memory is used"),
        ("misaligned", "byte 4 of shared memory is not aligned to 16"),
        ("branch", "barrier that not all .*: thread 0 waits at sync_block, .* thread 48 has ended"),
        ("two_barriers", "thread 0 waits at sync_block, .* thread 48 waits at sync_block, probes"),
        ("shuffle_branch", "a barrier that not all threads reach: thread 0 has ended, thread 32 "),
        ("two_shuffles", r"a warp that diverges: thread 0 waits at probes.cu:\d+, thread 1 comes"),
    ],
)
def test_wrong_kernels_are_found(probes, kernel, message):
    """Each with the line, and none hangs."""
    code, text = run(probes, kernel)
    assert code == 1
    assert re.search(message, text), text


@pytest.mark.parametrize(
    "launch, message",
    [
        ({"blocks": 0}, "a grid of 0 x 1 x 1"),
        ({"threads": 48}, "a block of 48 threads"),
        ({"shared_bytes": 10**6}, "a block with 1000000 bytes of shared memory"),
    ],
)
def test_wrong_launches_are_found(probes, launch, message):
    assert run(probes, "sum", **launch) == (1, f"host_cuda: {message}\n")
