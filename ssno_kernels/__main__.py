# SPDX-License-Identifier: MIT
"""`python -m ssno_kernels info`: what is installed, and which backend serves what, and why not."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from importlib import metadata

import torch

from . import __version__, builder, extension, registry

ISA_NAMES = ("plain", "avx2", "avx512")
VARIABLES = (
    *("SSNO_BACKEND", "SSNO_ISA", "SSNO_HOST_CUDA", "TRITON_INTERPRET"),
    *("TORCH_EXTENSIONS_DIR", "CXX", "CUDA_HOME", "TORCH_CUDA_ARCH_LIST"),
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m ssno_kernels", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    commands.add_parser("info", help="versions, devices, backends").set_defaults(run=info)
    parser.parse_args().run()


def info() -> None:
    """Print versions, devices, the state of the compiled extension, and each operator's table."""
    triton = metadata.version("triton") if importlib.util.find_spec("triton") else "not installed"
    for name, value in (
        ("ssno_kernels", __version__),
        ("torch", torch.__version__),
        ("triton", triton),
        ("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"),
        ("extension", extension_state()),
        ("cuda extension", cuda_state()),
        ("nvcc", nvcc_state()),
        *((variable, os.environ[variable]) for variable in VARIABLES if variable in os.environ),
    ):
        print(f"{name:20} {value}")
    for operator in registry.OPERATORS:
        for device, description in devices().items():
            print(f"\n{operator} on {device} ({description})")
            for line in table(operator, device):
                print(f"    {line}")


def extension_state() -> str:
    """Where the compiled extension comes from and what it runs with, or why there is none."""
    reason = extension.cpu.why_not()
    if reason is not None:
        return f"none: {reason}"
    try:
        isa = ISA_NAMES[torch.ops.ssno_kernels.cpu_isa()]
    except RuntimeError as error:
        isa = str(error)
    return f"{extension.cpu.loaded_from} ({isa})"


def cuda_state() -> str:
    """Where the CUDA kernels come from, or what is missing for them."""
    if extension.host_cuda() is None and torch.version.cuda and not torch.cuda.is_available():
        return "none: no CUDA device is present"
    reason = extension.cuda().why_not()
    return f"none: {reason}" if reason else f"{extension.cuda().loaded_from}"


def nvcc_state() -> str:
    """nvcc and what it compiles for, or why not."""
    try:
        return f"{builder.nvcc()}, for {' '.join(builder.targets())}"
    except builder.BuildError as error:
        return f"none: {error}"


def devices() -> dict[str, str]:
    """The kinds of device that are present, with a word on each."""
    found = {"cpu": f"{torch.get_num_threads()} threads"}
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is not None:
        module = torch.get_device_module(accelerator)
        name = getattr(module, "get_device_name", lambda: accelerator.type)()
        found[accelerator.type] = f"{module.device_count()} x {name}"
    return found


def table(operator: str, device: str) -> list[str]:
    """One line a backend: serves or the reason why not; an arrow marks the one chosen by itself."""
    chosen, _ = registry.preferred(operator, device)
    lines = []
    for backend in registry.BACKENDS:
        reason = registry.why_not(operator, backend, device)
        mark = "->" if backend == chosen else "  "
        lines.append(f"{mark} {backend:10} {'serves' if reason is None else f'no: {reason}'}")
    return lines


if __name__ == "__main__":
    main()
