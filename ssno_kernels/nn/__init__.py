# SPDX-License-Identifier: MIT
"""Layers."""

from .alias_free_activation import AliasFreeActivation
from .cross_selective_scan import CrossSelectiveScan

__all__ = ["AliasFreeActivation", "CrossSelectiveScan"]
