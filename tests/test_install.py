# SPDX-License-Identifier: MIT
"""`pip install .` succeeds with torch and a compiler, without either, and what each then has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SHIPPED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "ssno_kernels", "csrc")

for needed in ("pip", "setuptools"):
    if importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed", allow_module_level=True)


class Installed:
    """A copy of the sources installed into a folder of its own, with some variables set.

    Without the operators' kernels, which take a minute to compile and change nothing here.
    """

    def __init__(self, tmp_path: Path, **variables: str) -> None:
        self.site, self.source = tmp_path / "site", tmp_path / "source"
        self.source.mkdir()
        for name in SHIPPED:
            kernels = ("isa", "op_*", "*.cu") if name == "csrc" else ()
            skip = shutil.ignore_patterns("*.so", "__pycache__", *kernels)
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, self.source / name, ignore=skip)
            else:
                shutil.copy(ROOT / name, self.source / name)
        (self.source / "csrc" / "empty.cu").write_text("")
        self.environment = os.environ | {"TORCH_EXTENSIONS_DIR": str(tmp_path / "cache")}
        for variable in ("PYTHONPATH", "SSNO_HOST_CUDA"):
            self.environment.pop(variable, None)
        run = self.run(
            *("-m", "pip", "install", "--no-deps", "--no-build-isolation", "--no-index"),
            *("--disable-pip-version-check", "--target", str(self.site), str(self.source)),
            variables=variables,
        )
        assert run.returncode == 0, run.stdout + run.stderr
        self.folder = self.site / "ssno_kernels"

    def run(self, *arguments: str, variables: dict | None = None) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, *arguments],
            env=self.environment | (variables or {}),
            cwd=self.site.parent,
            capture_output=True,
            text=True,
        )

    def info(self, **variables: str) -> str:
        paths = [str(self.site), *filter(None, [variables.pop("PYTHONPATH", None)])]
        variables["PYTHONPATH"] = os.pathsep.join(paths)
        run = self.run("-m", "ssno_kernels", "info", variables=variables)
        return run.stdout + run.stderr

    def binaries(self) -> list[Path]:
        """Of the CPU kernels: a hash of 14 digits follows."""
        return list(self.folder.glob(f"_C_{'?' * 14}.*"))

    def assert_sources_are_shipped(self) -> None:
        def listing(folder: Path) -> set[str]:
            return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}

        assert listing(self.folder / "_csrc") == listing(self.source / "csrc")
        assert (self.folder / "py.typed").exists()  # or no type checker reads the hints


@pytest.fixture
def without_torch(tmp_path) -> str:
    """A folder that, on the path, makes `import torch` fail as where there is none."""
    (tmp_path / "hidden").mkdir()
    text = "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')\n"
    (tmp_path / "hidden" / "torch.py").write_text(text)
    return str(tmp_path / "hidden")


def test_with_torch_and_a_compiler(tmp_path):
    """The binary is built at install and serves with no compiler left on the machine."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        pytest.skip("no C++ compiler is installed")
    installed = Installed(tmp_path)
    installed.assert_sources_are_shipped()
    [binary] = installed.binaries()
    assert binary.name.endswith(".abi3.so")
    text = installed.info(CXX="/nonexistent/c++")
    assert f"extension            {binary}" in text
    assert "-> cpu        serves" in text
    assert not (tmp_path / "cache").exists()


def test_without_a_compiler(tmp_path):
    installed = Installed(tmp_path, CXX="/nonexistent/c++")
    installed.assert_sources_are_shipped()
    assert not installed.binaries()
    text = installed.info(CXX="/nonexistent/c++")
    assert "extension            none: no C++ compiler was found (CXX=/nonexistent/c++)" in text
    assert "-> composite  serves" in text


def test_without_torch(tmp_path, without_torch):
    installed = Installed(tmp_path, PYTHONPATH=without_torch)
    installed.assert_sources_are_shipped()
    assert not installed.binaries()
    assert "ssno_kernels needs PyTorch 2.11 or newer" in installed.info(PYTHONPATH=without_torch)


def test_unwritable_cache(tmp_path):
    installed = Installed(tmp_path, CXX="/nonexistent/c++")
    (tmp_path / "file").write_text("")
    text = installed.info(TORCH_EXTENSIONS_DIR=str(tmp_path / "file" / "cache"))
    assert f"none: the cache folder {tmp_path / 'file' / 'cache'} cannot be used" in text
    assert "-> composite  serves" in text
