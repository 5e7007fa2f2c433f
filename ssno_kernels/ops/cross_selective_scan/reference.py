# SPDX-License-Identifier: MIT
"""The specification of `cross_selective_scan`: an explicit loop. Speed is not its aim."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from .traversals import Traversal


def points(traversal: Traversal, grid: Sequence[int]) -> list[tuple[int, ...]]:
    """(X1): the points of the grid in the order of the traversal."""
    visited = []
    for indices in product(*(range(grid[axis]) for axis in traversal.axes)):
        point = [0] * len(grid)
        for axis, index in zip(traversal.axes, indices, strict=True):
            point[axis] = index
        visited.append(tuple(point))
    return visited[::-1] if traversal.reverse else visited


def cross_selective_scan(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    delta_bias: Tensor | None, delta_weight: Tensor | None, delta_softplus: bool,
    traversals: Sequence[Traversal], stack: bool,
) -> Tensor:  # fmt: skip
    """(X1) to (X3) of the public docstring, traversal by traversal and point by point."""
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    grid = x.shape[2:]
    outs = []
    for k, traversal in enumerate(traversals):
        h = x.new_zeros(x.shape[0], *A.shape[1:], dtype=real)
        y = {}
        for point in points(traversal, grid):
            at: tuple[slice | int, ...] = (slice(None), slice(None), *point)
            x_t, step, B_t, C_t = (v[at].to(real) for v in (x, delta[:, k], B[:, k], C[:, k]))
            if delta_weight is not None:  # (S1)
                step = step @ delta_weight[k].to(real).T
            if delta_bias is not None:
                step = step + delta_bias[k].to(real)
            if delta_softplus:  # (S2)
                step = torch.where(step > 20, step, torch.log1p(torch.exp(step.clamp(max=20))))
            dt = step[:, :, None]
            h = torch.exp(dt * A[k].to(real)) * h + dt * B_t[:, None] * x_t[:, :, None]  # (S3)
            y[point] = (C_t[:, None] * h).sum(-1)  # (S4)
            if D is not None:
                y[point] = y[point] + D[k].to(real) * x_t
        ordered = [y[point] for point in product(*map(range, grid))]
        outs.append(torch.stack(ordered, dim=-1).unflatten(-1, grid))
    out = torch.stack(outs, dim=1)  # (X3)
    return (out if stack else out.sum(1)).to(x.dtype)
