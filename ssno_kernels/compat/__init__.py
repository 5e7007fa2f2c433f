# SPDX-License-Identifier: MIT
"""Stand-ins for the packages of selective state-space models, on our operators and on any device.

    from ssno_kernels import compat
    compat.install()                    # `import mamba_ssm` and the others, where not installed
    compat.accelerate_transformers()    # its Mamba layers, on a CPU too

or, for a script that is left as it is, ``python -m ssno_kernels run --compat script.py ...``.

Each module has the signatures of what it stands for, and says in its docstrings where it does more:
`mamba_ssm`, `causal_conv1d`, the compiled `selective_scan_cuda`, `selective_scan_cuda_core`,
`selective_scan_cuda_oflex` and `causal_conv1d_cuda`, VMamba's functions as `vmamba`, S4's as `s4`.
What is not covered raises `NotCoveredError`.
"""

from __future__ import annotations

from . import (
    causal_conv1d,
    causal_conv1d_cuda,
    mamba_ssm,
    s4,
    selective_scan_cuda,
    selective_scan_cuda_core,
    selective_scan_cuda_oflex,
    vmamba,
)
from .importing import install, uninstall
from .not_covered import NotCoveredError
from .transformers import accelerate_transformers

__all__ = [
    "NotCoveredError",
    "accelerate_transformers",
    "causal_conv1d",
    "causal_conv1d_cuda",
    "install",
    "mamba_ssm",
    "s4",
    "selective_scan_cuda",
    "selective_scan_cuda_core",
    "selective_scan_cuda_oflex",
    "uninstall",
    "vmamba",
]
