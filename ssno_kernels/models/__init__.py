# SPDX-License-Identifier: MIT
"""Thin reference models built on the layers."""

from .mambano import MambaNO2d

__all__ = ["MambaNO2d"]
