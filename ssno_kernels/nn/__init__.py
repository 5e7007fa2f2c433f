# SPDX-License-Identifier: MIT
"""Layers built on the operators."""

from .alias_free_activation import AliasFreeActivation
from .cross_selective_scan import CrossSelectiveScan
from .damped_conv import DampedConv

__all__ = ["AliasFreeActivation", "CrossSelectiveScan", "DampedConv"]
