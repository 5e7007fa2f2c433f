# SPDX-License-Identifier: MIT
"""Every CUDA kernel on the host under AddressSanitizer and UndefinedBehaviorSanitizer.

A process of its own, since a sanitizer has to be there before Python starts. It runs the core
samples of each operator forward and backward and compares them with the reference.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ssno_kernels import builder, registry

ROOT = Path(__file__).parents[1]
HOST_CUDA = ROOT / "tests" / "host_cuda"
SANITIZE = ("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined", "-g1")
OPERATORS = [name for name, backends in registry.OPERATORS.items() if "cuda" in backends]


@pytest.fixture(scope="module")
def environment():
    """Variables of a process whose CUDA kernels are compiled with sanitizers."""
    if not sys.platform.startswith("linux"):
        pytest.skip("sanitizers are preloaded as on Linux")
    try:
        compiler = builder.compiler()
    except builder.BuildError as error:
        pytest.skip(str(error))
    libraries = [_runtime(compiler, name) for name in ("libasan.so", "libstdc++.so.6")]
    return os.environ | {
        "CXX": shlex.join([*compiler, *SANITIZE]),
        "SSNO_HOST_CUDA": str(HOST_CUDA),
        # beside the libraries without sanitizers, and kept as they are
        "TORCH_EXTENSIONS_DIR": str(_cache() / "sanitized"),
        "LD_PRELOAD": " ".join(libraries),
        # Python and PyTorch allocate for the life of the process
        "ASAN_OPTIONS": "detect_leaks=0:verify_asan_link_order=0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        "OMP_NUM_THREADS": "1",
    }


def _cache() -> Path:
    from ssno_kernels import extension

    return extension._cache_folder()


def _runtime(compiler: list[str], name: str) -> str:
    command = [*compiler, f"-print-file-name={name}"]
    path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"{compiler[0]} has no {name}")
    return path


SCRIPT = """
import sys, torch, harness
[spec] = [s for s in harness.SPECS if s.name == sys.argv[1]]
for dtype in (torch.float32, torch.float64, torch.bfloat16):
    for sample in spec.samples:
        if sample.name in spec.core:
            inputs = sample.make(dtype)
            expected, cotangents = harness.truth(spec, inputs)
            results = harness.run(spec, inputs, "cuda", cotangents)
            harness.assert_close(results, expected, spec.tolerances[dtype])
"""


@pytest.mark.parametrize("operator", OPERATORS)
def test_kernels_under_sanitizers(environment, operator):
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, operator], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_sanitizers_see_a_wrong_kernel(environment, tmp_path):
    """One that writes beyond the end of a tensor, and nothing less would see it."""
    program = tmp_path / "probes"
    command = shlex.split(environment["CXX"])
    command += ["-std=c++20", "-O1", "-DSSNO_HOST_CUDA", f"-I{ROOT / 'csrc'}", f"-I{HOST_CUDA}"]
    sources = [str(HOST_CUDA / name) for name in ("probes.cu", "host_cuda.cpp")]
    subprocess.run([*command, "-x", "c++", *sources, "-o", str(program)], check=True)
    run = subprocess.run([program, "global", "1", "64", "256"], capture_output=True, text=True)
    assert run.returncode != 0
    assert re.search(r"heap-buffer-overflow(?s:.*)global_kernel", run.stderr), run.stderr
