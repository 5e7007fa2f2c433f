# SPDX-License-Identifier: MIT
"""The compiled extension: built once, found again, and each failure told in one sentence."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from ssno_kernels import builder, extension

CPU = builder.CPU
ROOT = Path(__file__).parents[1]
SOURCE = """
#include <torch/csrc/stable/library.h>
static int64_t source_hash() { return SSNO_SOURCE_HASH; }
STABLE_TORCH_LIBRARY_FRAGMENT(ssno_test_NAME, m) { m.def("source_hash() -> int"); }
STABLE_TORCH_LIBRARY_IMPL(ssno_test_NAME, CompositeExplicitAutograd, m) {
    m.impl("source_hash", TORCH_BOX(&source_hash));
}
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A stand-in for an install: a tiny extension of its own, an empty cache."""
    name = tmp_path.name.replace("-", "_")
    (tmp_path / "site" / "_csrc").mkdir(parents=True)
    (tmp_path / "site" / "_csrc" / "extension.cpp").write_text(SOURCE.replace("NAME", name))
    monkeypatch.setattr(extension, "_PACKAGE", tmp_path / "site")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def loader(package):
    """As a new process would have it."""
    return extension.Loader(CPU)


def need_compiler() -> None:
    try:
        builder.compiler()
    except builder.BuildError as error:
        pytest.skip(str(error))


def loaded_hash(package: Path) -> int:
    return getattr(torch.ops, f"ssno_test_{package.name.replace('-', '_')}").source_hash()


def no_compiler_call(monkeypatch) -> None:
    def refuse(*_, **__):
        raise AssertionError("a compiler was called")

    monkeypatch.setattr(builder.subprocess, "run", refuse)


def test_compiles_at_first_use_and_then_never_again(package, loader, monkeypatch, capfd):
    need_compiler()
    assert loader.why_not() is None
    said = capfd.readouterr().err
    assert re.fullmatch(
        r"ssno_kernels: the CPU kernels are compiled into \S+ now, 1 files.*\n", said
    )
    assert loader.loaded_from.parent == package / "cache"
    assert loaded_hash(package) == CPU.source_hash(package / "site" / "_csrc")
    no_compiler_call(monkeypatch)
    assert loader.why_not() is None
    assert extension.Loader(CPU).why_not() is None
    assert sorted(p.suffix for p in (package / "cache").iterdir()) == [".lock", ".so"]
    assert capfd.readouterr().err == ""


def test_extension_built_at_install_is_used(package, loader, monkeypatch):
    need_compiler()
    folder = package / "site" / "_csrc"
    target = package / "site" / f"{CPU.built_name(folder)}.abi3.so"
    CPU.build(folder, target)
    no_compiler_call(monkeypatch)
    assert loader.why_not() is None
    assert loader.loaded_from == target
    assert not (package / "cache").exists()


def test_stale_binary_is_not_used(package, loader):
    need_compiler()
    folder = package / "site" / "_csrc"
    CPU.build(folder, package / "site" / f"{CPU.built_name(folder)}.abi3.so")
    with open(folder / "extension.cpp", "a") as file:
        file.write("// changed\n")
    assert loader.why_not() is None
    assert loader.loaded_from.parent == package / "cache"
    assert loaded_hash(package) == CPU.source_hash(folder)


def test_header_and_flag_change_the_hash(package, monkeypatch):
    folder = package / "site" / "_csrc"
    hashes = {CPU.source_hash(folder)}
    (folder / "extra.h").write_text("// new\n")
    hashes.add(CPU.source_hash(folder))
    monkeypatch.setattr(CPU, "flags", (*CPU.flags, "-g"))
    hashes.add(CPU.source_hash(folder))
    assert len(hashes) == 3


def test_broken_binary_of_an_install_gives_way(package, loader):
    need_compiler()
    folder = package / "site" / "_csrc"
    (package / "site" / f"{CPU.built_name(folder)}.abi3.so").write_bytes(b"not a library")
    assert loader.why_not() is None
    assert loader.loaded_from.parent == package / "cache"


@pytest.mark.parametrize("named", ["/nonexistent/c++", None])
def test_no_compiler(package, loader, monkeypatch, named):
    if named:
        monkeypatch.setenv("CXX", named)
        expected = r"no C\+\+ compiler was found \(CXX=/nonexistent/c\+\+\)"
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(package))
        expected = r"no C\+\+ compiler was found \(c\+\+, g\+\+ or clang\+\+\)"
    assert re.match(expected, loader.why_not())


def test_compiler_error_is_told_in_one_line_and_not_retried(package, loader, monkeypatch):
    need_compiler()
    (package / "site" / "_csrc" / "broken.cpp").write_text("int f() { return nonsense; }\n")
    reason = loader.why_not()
    assert "failed: " in reason and "nonsense" in reason and "\n" not in reason
    assert not list((package / "cache").glob("*.so"))
    no_compiler_call(monkeypatch)
    assert loader.why_not() == reason


def test_unwritable_cache_names_the_folder_and_the_variable(package, loader, monkeypatch):
    (package / "file").write_text("")
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(package / "file" / "cache"))
    assert loader.why_not() == (
        f"the cache folder {package / 'file' / 'cache'} cannot be used (Not a directory); "
        "TORCH_EXTENSIONS_DIR names another"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_cache(package, loader, monkeypatch):
    (package / "cache").mkdir(mode=0o500)
    assert "cannot be used (Permission denied)" in loader.why_not()


def test_missing_sources(package, loader):
    (package / "site" / "_csrc" / "extension.cpp").unlink()
    assert loader.why_not() == "the sources of the compiled extension are missing from this install"


def test_processes_that_start_together_build_once(package):
    need_compiler()
    script = (
        "import sys, pathlib; from ssno_kernels import builder, extension\n"
        "extension._PACKAGE = pathlib.Path(sys.argv[1])\n"
        "build = builder.Extension.build\n"
        "builder.Extension.build = lambda *a: (print('built'), build(*a))\n"
        "assert extension.cpu.why_not() is None"
    )
    command = [sys.executable, "-c", script, str(package / "site")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) for _ in range(2)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert b"".join(outputs).count(b"built") == 1


def test_cuda_extension_says_what_is_missing(monkeypatch, capfd):
    """In this order: a PyTorch with CUDA, nvcc."""
    monkeypatch.setattr(torch.version, "cuda", None)
    expected = f"this PyTorch ({torch.__version__}) is built without CUDA"
    assert extension.Loader(builder.CUDA).why_not() == expected
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setenv("CUDA_HOME", "/nonexistent")
    reason = extension.Loader(builder.CUDA).why_not()
    assert reason.startswith("nvcc was not found (CUDA_HOME=/nonexistent)")
    assert capfd.readouterr().err == ""


def test_wrong_target_is_named(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "9.0a;Hopper")
    with pytest.raises(builder.BuildError, match="TORCH_CUDA_ARCH_LIST names 'Hopper'; expected"):
        builder.generated_code()


def test_targets_become_options(monkeypatch):
    monkeypatch.setenv("TORCH_CUDA_ARCH_LIST", "8.0 9.0a;12.0+PTX")
    assert builder.generated_code() == [
        "-gencode=arch=compute_80,code=sm_80",
        "-gencode=arch=compute_90a,code=sm_90a",
        "-gencode=arch=compute_120,code=sm_120",
        "-gencode=arch=compute_120,code=compute_120",
    ]


def test_files_of_the_two_extensions():
    """A change of the CUDA kernels does not make the CPU kernels compile anew, nor the reverse."""
    folder = ROOT / "csrc"
    cpu, cuda = (
        {path.relative_to(folder).as_posix() for path in e.files(folder)}
        for e in (CPU, builder.CUDA)
    )
    assert "selective_scan/op_cpu.cpp" in cpu - cuda
    assert {"ssno/cuda.h", "cuda_operator.h"} <= cuda - cpu
    assert "operator.h" in cuda & cpu
    assert {path for path in cpu | cuda if path.endswith(".cu")} <= cuda


def test_import_takes_little_beyond_torch():
    """The best of a few, since a busy machine only ever adds."""
    script = (
        "import time, torch; start = time.perf_counter(); import ssno_kernels; "
        "print(time.perf_counter() - start)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    deadline, best = time.monotonic() + 60, float("inf")
    while best > 0.3 and time.monotonic() < deadline:
        run = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True
        )
        best = min(best, float(run.stdout))
    assert best <= 0.3


def test_import_loads_neither_triton_nor_a_compiler():
    script = (
        "import sys, torch; before = set(sys.modules); import ssno_kernels; "
        "new = set(sys.modules) - before; "
        "assert not {'triton', 'sympy', 'torch.utils.cpp_extension'} & new; "
        "assert ssno_kernels.registry.extension.cpu.loaded_from is None"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
