# SPDX-License-Identifier: MIT
"""The Mamba-1 part of the package `mamba_ssm`: its functions, and its block `Mamba`.

The maths is that of :func:`ssno_kernels.selective_scan`. Beyond the originals: every device,
float64 inputs are computed in float64, gradients reach the last state, derivatives of any order.
"""

from __future__ import annotations

from .layer_norm import RMSNorm, layer_norm_fn, rms_norm_fn
from .mamba_block import InferenceParams, Mamba
from .mamba_inner import mamba_inner_fn, mamba_inner_ref, selective_scan_fn, selective_scan_ref
from .state_update import selective_state_update, selective_state_update_ref

__version__ = "1.2.2+ssno"  # of the last release that had no more than Mamba-1
__all__ = [
    "InferenceParams",
    "Mamba",
    "RMSNorm",
    "layer_norm_fn",
    "mamba_inner_fn",
    "mamba_inner_ref",
    "rms_norm_fn",
    "selective_scan_fn",
    "selective_scan_ref",
    "selective_state_update",
    "selective_state_update_ref",
]
