# SPDX-License-Identifier: MIT
"""Layers built on the operators."""

from .damped_conv import DampedConv

__all__ = ["DampedConv"]
