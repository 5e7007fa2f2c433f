# SPDX-License-Identifier: MIT
"""Thin reference models built on the layers."""

from .mambano import MambaNO2d
from .ssno import SSNO1d, SSNO2d, SSNO3d

__all__ = ["MambaNO2d", "SSNO1d", "SSNO2d", "SSNO3d"]
