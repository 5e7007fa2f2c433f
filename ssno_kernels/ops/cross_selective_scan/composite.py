# SPDX-License-Identifier: MIT
"""`cross_selective_scan` in PyTorch operations: any device, any order of derivatives, any mode.

The traversals of x are laid out one after the other as groups of channels of a 1-D selective scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from ..selective_scan import composite as selective_scan
from .arguments import Arguments, canonical
from .layout import in_layout_of
from .traversals import Traversal, lay_out, put_back


def cross_selective_scan(arguments: Arguments) -> Tensor:
    """The result of the public docstring from its checked arguments."""
    return scan(*canonical(arguments))


def scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    delta_bias: Tensor | None, delta_weight: Tensor | None, delta_softplus: bool,
    traversals: Sequence[Traversal], stack: bool,
) -> Tensor:  # fmt: skip
    """The same from canonical arguments (see `arguments.canonical`)."""
    grid = x.shape[2:]
    if delta_weight is not None:
        delta = torch.einsum("kdr,bkr...->bkd...", delta_weight, delta.to(A.dtype))

    def along(v: Tensor) -> Tensor:
        """(B, K, ..., *grid) as (B, K, ..., L)."""
        rows = [lay_out(v[:, k], traversal) for k, traversal in enumerate(traversals)]
        return torch.stack(rows, dim=1)

    u = along(x[:, None].expand(-1, len(traversals), *x.shape[1:]))
    D, delta_bias = (None if p is None else p.flatten() for p in (D, delta_bias))
    y, _ = selective_scan.scan(
        u.flatten(1, 2), along(delta).flatten(1, 2), A.flatten(0, 1), along(B), along(C), D, None,
        delta_bias, None, None, delta_softplus, False,
    )  # fmt: skip
    rows = y.unflatten(1, (len(traversals), -1)).unbind(1)
    ys = [put_back(row, t, grid) for row, t in zip(rows, traversals, strict=True)]
    return in_layout_of(x, torch.stack(ys, dim=1) if stack else reduce(torch.add, ys), stack)
