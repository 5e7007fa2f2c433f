# SPDX-License-Identifier: MIT
"""Fast, checked kernels for state-space neural operators."""

try:
    import torch as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"ssno_kernels needs PyTorch 2.11 or newer, which cannot be imported here ({error})"
    ) from error

from . import compat, models, nn
from .filters import alias_free_padding, alias_free_resampling, kaiser_lowpass
from .ops.alias_free_activation import alias_free_activation
from .ops.cross_scan import cross_merge, cross_scan
from .ops.cross_selective_scan import (
    CROSS_1D,
    CROSS_2D,
    CROSS_3D,
    CROSS_3D_BOTH,
    Traversal,
    cross_selective_scan,
)
from .ops.damped_conv import damped_conv, damped_conv_kernel, damped_conv_step
from .ops.selective_scan import selective_scan, selective_scan_step, seq_idx_from_cu_seqlens
from .registry import BackendError, use_backend

__version__ = "0.1.0"
__all__ = [
    "CROSS_1D",
    "CROSS_2D",
    "CROSS_3D",
    "CROSS_3D_BOTH",
    "BackendError",
    "Traversal",
    "alias_free_activation",
    "alias_free_padding",
    "alias_free_resampling",
    "compat",
    "cross_merge",
    "cross_scan",
    "cross_selective_scan",
    "damped_conv",
    "damped_conv_kernel",
    "damped_conv_step",
    "kaiser_lowpass",
    "models",
    "nn",
    "selective_scan",
    "selective_scan_step",
    "seq_idx_from_cu_seqlens",
    "use_backend",
]
