# SPDX-License-Identifier: MIT
"""Fast, checked kernels for state-space neural operators."""

from .ops.selective_scan import selective_scan
from .registry import BackendError, use_backend

__version__ = "0.1.0"
__all__ = ["BackendError", "selective_scan", "use_backend"]
