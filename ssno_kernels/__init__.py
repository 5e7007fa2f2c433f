# SPDX-License-Identifier: MIT
"""Fast, checked kernels for state-space neural operators."""

try:
    import torch as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"ssno_kernels needs PyTorch 2.11 or newer, which cannot be imported here ({error})"
    ) from error

from .filters import alias_free_padding, alias_free_resampling, kaiser_lowpass
from .ops.alias_free_activation import alias_free_activation
from .ops.selective_scan import selective_scan
from .registry import BackendError, use_backend

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "alias_free_activation",
    "alias_free_padding",
    "alias_free_resampling",
    "kaiser_lowpass",
    "selective_scan",
    "use_backend",
]
