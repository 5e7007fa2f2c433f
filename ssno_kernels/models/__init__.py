# SPDX-License-Identifier: MIT
"""Thin reference models built on the layers."""

from .ssno import SSNO1d, SSNO2d, SSNO3d

__all__ = ["SSNO1d", "SSNO2d", "SSNO3d"]
