# SPDX-License-Identifier: MIT
"""What a measurement is keyed by: the device, the versions, the commit, the date."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cpuinfo
import torch

PACKAGES = ("torch", "triton", "numpy", "mambapy", "mamba-ssm", "pytest-benchmark")


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    brand = cpuinfo.get_cpu_info().get("brand_raw") or platform.processor() or "cpu"
    return f"{brand}, {torch.get_num_threads()} threads"


def slug(device: str) -> str:
    """The device's name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", device_name(device).lower()).strip("-")


def command(module: str) -> str:
    """What was called, to call it again; the folder of the report, which is anyone's own, apart."""
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out")
    _, others = out.parse_known_args(sys.argv[1:])
    return shlex.join(["python", "-m", module, *others])


def environment(
    device: str, profile: str, date: datetime.datetime, module: str = "bench"
) -> dict[str, Any]:
    """Keys and values that a report carries; `busy` is the load by others in the last minute."""
    return {
        "device": device_name(device),
        "isa": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "busy": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "compiler": _first_line(os.environ.get("CXX", "c++"), "--version"),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(),
        "date": date.isoformat(timespec="seconds"),
        "profile": profile,
        "command": command(module),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _first_line(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.splitlines()[0] if done.returncode == 0 and done.stdout else None


def _commit() -> str | None:
    """The commit of the sources, marked where files differ from it."""
    return _first_line("git", "describe", "--always", "--dirty", "--abbrev=12")
