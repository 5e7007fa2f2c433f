# SPDX-License-Identifier: MIT
"""Layers."""

from .alias_free_activation import AliasFreeActivation

__all__ = ["AliasFreeActivation"]
