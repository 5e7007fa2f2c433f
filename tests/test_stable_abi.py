# SPDX-License-Identifier: MIT
"""The binaries need no more of PyTorch than its stable ABI of 2.11 has, and load under another one.

SSNO_OTHER_PYTHON names the interpreter of another PyTorch, under which the binaries built here then
run: its results must be the same to the last bit.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import harness
import pytest
import torch

from ssno_kernels import builder, extension, registry

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads ELF binaries")
ROOT = Path(__file__).parents[1]
SHIMS = """
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_aten.h>
#include <torch/csrc/stable/c/shim.h>
"""  # what the stable ABI's own ops.h is written in
SYSTEM = ("libstdc++.so.6", "libm.so.6", "libpthread.so.0", "libdl.so.2", "librt.so.1")
OTHER = os.environ.get("SSNO_OTHER_PYTHON")

# All that the launchers call of CUDA: nothing that waits, reads back or allocates, so that a call
# can be captured in a graph. What nvcc puts in itself begins with underscores.
CALLED = {
    "cudaDeviceGetAttribute",
    "cudaFuncSetAttribute",
    "cudaGetDevice",
    "cudaGetErrorString",
    "cudaLaunchKernel",
}


def need(missing, *arguments):
    """What a function of `builder` finds; skips where it finds nothing."""
    try:
        return missing(*arguments)
    except builder.BuildError as error:
        pytest.skip(str(error))


def undefined(binary: Path) -> set[str]:
    """The names that a binary or an object needs of others, weak ones left out."""
    if shutil.which("nm") is None:
        pytest.skip("nm is not installed (it comes with a compiler)")
    dynamic = ["-D"] if binary.suffix == ".so" else []
    command = ["nm", *dynamic, "--undefined-only", str(binary)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = (line.split()[-2:] for line in text.splitlines())
    return {name.partition("@")[0] for kind, name in found if kind == "U"}


def declared(flags: tuple[str, ...]) -> set[str]:
    """The functions of the stable ABI that a source compiled with these flags could call."""
    includes = builder._includes(ROOT / "csrc")
    command = [*need(builder.compiler), *flags, *includes, "-E", "-x", "c++", "-"]
    run = subprocess.run(command, input=SHIMS, capture_output=True, text=True, check=True)
    return set(re.findall(r"\b((?:aoti_)?torch_\w+)\s*\(", run.stdout))


def assert_stable(needed: set[str], flags: tuple[str, ...]) -> None:
    """All of it is of the stable ABI or the system: no C++ of PyTorch's, nothing of Python's."""
    system = [ctypes.CDLL(name) for name in SYSTEM]
    rest = {name for name in needed if not any(hasattr(library, name) for library in system)}
    assert rest, "a binary that needs nothing of PyTorch registers nothing"
    assert rest <= declared(flags)


def test_what_is_declared_depends_on_the_target():
    """Or the other tests would say nothing of 2.11."""
    later = [re.sub("(?<=VERSION=0x02)0b", "0d", flag) for flag in builder.CPU.flags]
    assert later != list(builder.CPU.flags)
    assert "torch_call_dispatcher" in declared(builder.CPU.flags)
    if torch.__version__ >= "2.12":
        assert "torch_library_def_with_tags" in declared(tuple(later)) - declared(builder.CPU.flags)


@pytest.mark.parametrize("loader", [extension.cpu, extension.cuda()], ids=["cpu", "cuda"])
def test_binaries_need_the_stable_abi_only(loader):
    if reason := loader.why_not():
        pytest.skip(reason)
    assert_stable(undefined(loader.loaded_from), loader.extension.flags)


STUB = """
extern "C" {
int aoti_torch_get_current_cuda_stream(int, void**) { return 1; }
int aoti_torch_create_device_guard(int, void**) { return 1; }
int aoti_torch_delete_device_guard(void*) { return 1; }
}
"""
REGISTERED = """
import sys, torch, ssno_kernels
torch.ops.load_library(sys.argv[1])
for name, backends in ssno_kernels.registry.OPERATORS.items():
    for way in ('fwd', 'bwd') if 'cuda' in backends else ():
        operator = f'ssno_kernels::{name}_{way}_cuda'
        assert torch._C._dispatch_has_kernel_for_dispatch_key(operator, 'CUDA'), operator
"""


@pytest.fixture(scope="module")
def cuda_binary(tmp_path_factory):
    """`_C_cuda` as nvcc makes it but for optimisation, and what its objects need.

    With a library of three functions in the place of libtorch_cuda where PyTorch has none.
    """
    need(builder.nvcc)
    folder = tmp_path_factory.mktemp("cuda")
    needed = set()

    def execute(command):
        run(command)
        if "-c" in command:
            needed.update(undefined(Path(command[-1])))

    run = builder._execute
    with pytest.MonkeyPatch.context() as patch:
        if torch.version.cuda is None:
            (folder / "stub.cpp").write_text(STUB)
            stub = [*need(builder.compiler), "-shared", "-fPIC", str(folder / "stub.cpp")]
            subprocess.run([*stub, "-o", str(folder / "libtorch_cuda.so")], check=True)
            patch.setenv("LIBRARY_PATH", str(folder))
        # code for a virtual device, not optimised: a fifth of the time
        virtual = ["-gencode=arch=compute_90a,code=compute_90a"]
        patch.setattr(builder, "generated_code", lambda: virtual)
        quick = (*builder.CUDA.kernel_flags, "-O0", "-Xcicc=-O0")
        patch.setattr(builder.CUDA, "kernel_flags", quick)
        patch.setattr(builder, "_execute", execute)
        builder.CUDA.build(ROOT / "csrc", folder / "built.so")
    return folder / "built.so", needed


def test_cuda_binary_loads_and_registers(cuda_binary):
    binary, _ = cuda_binary
    assert_stable(undefined(binary), builder.CUDA.flags)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LD_LIBRARY_PATH": str(binary.parent)}
    command = [sys.executable, "-c", REGISTERED, str(binary)]
    subprocess.run(command, env=environment, check=True)


def test_launchers_neither_wait_nor_allocate(cuda_binary):
    _, needed = cuda_binary
    assert {name for name in needed if re.match("cu(da)?[A-Z]", name)} == CALLED


def test_only_one_header_knows_cuda():
    """The same where there is no nvcc, by the names that the sources hold."""
    named = {}
    for path in sorted(p for p in (ROOT / "csrc").rglob("*") if p.suffix in (".h", ".cu", ".cpp")):
        code = re.sub(r"//.*", "", path.read_text())
        if found := set(re.findall(r"\bcu(?:da)?[A-Z]\w*", code)):
            named[path.name] = found
    assert named.keys() <= {"cuda_device.h", "cuda_operator.h"}
    types = {"cudaError_t", "cudaSuccess", "cudaStream_t", "cudaDeviceAttr", "cudaFuncAttribute"}
    constants = {n for n in named["cuda_device.h"] if n.startswith(("cudaDevAttr", "cudaFuncAttr"))}
    assert named["cuda_device.h"] - types - constants == CALLED


ELSEWHERE = """
import importlib, sys, torch
import ssno_kernels
from ssno_kernels import extension
cases, results = torch.load(sys.argv[1], weights_only=False), []
for name, backend, inputs, cotangents in cases:
    spec = importlib.import_module(f'ssno_kernels.ops.{name}.spec').SPEC
    leaves = {k: x.requires_grad_() for k, x in inputs.items() if isinstance(x, torch.Tensor)}
    out = spec.function(**inputs, backend=backend)
    outs = out if isinstance(out, tuple) else (out,)
    gradients = torch.autograd.grad(outs, list(leaves.values()), cotangents)
    results.append([x.detach() for x in (*outs, *gradients)])
loaded = [extension.cpu.loaded_from, extension.cuda().loaded_from]
torch.save((str(torch.__version__), [str(x) for x in loaded], results), sys.argv[2])
"""


@pytest.fixture
def other_python() -> str:
    if not OTHER:
        pytest.skip("SSNO_OTHER_PYTHON names no interpreter of another PyTorch")
    return OTHER


def test_binaries_run_under_another_pytorch(other_python, tmp_path):
    """The very files that are in use here, on the same inputs."""
    cases, expected = [], []
    loaders = {"cpu": extension.cpu, "cuda": extension.cuda()}
    for spec in harness.SPECS:
        for backend in set(loaders) & set(registry.OPERATORS[spec.name]):
            if harness.device_of(backend) == "cpu" and loaders[backend].why_not() is None:
                inputs = harness.first_core(spec, torch.float32)
                outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
                cotangents = harness.cotangents_for(outputs)
                cases.append((spec.name, backend, inputs, cotangents))
                results = harness.run(spec, inputs, backend, cotangents)
                expected.append(list(results.values()))
    if not cases:
        pytest.skip("no binary serves CPU tensors here")
    torch.save(cases, tmp_path / "cases")
    command = [other_python, "-c", ELSEWHERE, str(tmp_path / "cases"), str(tmp_path / "results")]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    version, loaded, results = torch.load(tmp_path / "results")
    print(f"built with {torch.__version__}, run with {version}")
    assert version != torch.__version__
    assert loaded == [str(loader.loaded_from) for loader in loaders.values()]
    for case, values, references in zip(cases, results, expected, strict=True):
        for value, reference in zip(values, references, strict=True):
            assert torch.equal(value, reference), case[:2]


def test_cuda_binary_registers_under_another_pytorch(other_python, cuda_binary):
    has_cuda = "import sys, torch; sys.exit(torch.version.cuda is None)"
    if subprocess.run([other_python, "-c", has_cuda]).returncode:
        pytest.skip(f"the PyTorch of {other_python} is built without CUDA")
    command = [other_python, "-c", REGISTERED, str(cuda_binary[0])]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
