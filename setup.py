# SPDX-License-Identifier: MIT
"""Ships the C++ sources inside the package and compiles them where torch can be imported.

A build that cannot compile (no torch, no compiler) is no failure: the kernels are then compiled at
first use, and `python -m ssno_kernels info` says what is missing.
"""

import runpy
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


def load_builder() -> dict:
    """The functions of ssno_kernels/builder.py, or nothing where torch cannot be imported."""
    try:
        return runpy.run_path(str(ROOT / "ssno_kernels" / "builder.py"))
    except (ImportError, OSError) as error:
        print(f"ssno_kernels: kernels are not compiled now, torch is not importable ({error})")
        return {}


BUILDER = load_builder()


class BuildKernels(build_ext):
    """Builds with the package's own two commands; a failure is told and passed over."""

    def build_extension(self, ext):
        target = Path(self.get_ext_fullpath(ext.name)).resolve()
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            EXTENSIONS[ext.name].build(ROOT / "csrc", target)
        except (BUILDER["BuildError"], OSError) as error:
            print(f"ssno_kernels: {ext.name} is not compiled now ({error})")


def extensions() -> dict:
    """The extensions that PyTorch here could load, by their modules' names."""
    found = [BUILDER[name] for name in ("CPU", "CUDA") if BUILDER]
    return {
        f"ssno_kernels.{extension.built_name(ROOT / 'csrc')}": extension
        for extension in found
        if extension.missing() is None
    }


EXTENSIONS = extensions()


setup(
    packages=[*find_packages(include=["ssno_kernels*"]), "ssno_kernels._csrc"],
    package_dir={"ssno_kernels._csrc": "csrc"},
    package_data={
        "ssno_kernels": ["py.typed"],
        "ssno_kernels._csrc": ["**/*.cpp", "**/*.cu", "**/*.h"],
    },
    ext_modules=[Extension(name, [], py_limited_api=True, optional=True) for name in EXTENSIONS],
    cmdclass={"build_ext": BuildKernels},
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if BUILDER else {},
)
