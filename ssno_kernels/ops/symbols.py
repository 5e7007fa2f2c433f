# SPDX-License-Identifier: MIT
"""Sizes that are symbols, as where torch.compile or torch.export is to take any."""

from __future__ import annotations

import torch


def is_symbol(size: int) -> bool:
    """Whether the size is not known: to compare it would make a condition of the outcome."""
    if isinstance(size, int) and not torch.compiler.is_compiling():
        return False  # for torch.compile a symbol is an int, too
    from torch.fx.experimental.symbolic_shapes import has_static_value  # takes half a second

    return not has_static_value(size)
