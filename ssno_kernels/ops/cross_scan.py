# SPDX-License-Identifier: MIT
"""`cross_scan` and `cross_merge`: the traversals of a grid laid out one after the other, and back.

They take what VMamba's functions `cross_scan_fn` and `cross_merge_fn` take. A scan that runs
on their result is what :func:`~ssno_kernels.cross_selective_scan` does without copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from .cross_selective_scan.traversals import (
    CROSS_2D,
    Traversal,
    check_traversals,
    lay_out,
    put_back,
)

__all__ = ["cross_merge", "cross_scan"]

_ROWS, _ROWS_REVERSED = CROSS_2D[0], CROSS_2D[2]
SCANS = {
    0: CROSS_2D,
    1: (_ROWS, _ROWS, _ROWS, _ROWS),
    2: (_ROWS, _ROWS, _ROWS_REVERSED, _ROWS_REVERSED),
}
"""VMamba's numbers: 0 cross, 1 unidirectional, 2 bidirectional."""


def cross_scan(
    x: Tensor,
    in_channel_first: bool = True,
    out_channel_first: bool = True,
    one_by_one: bool = False,
    scans: int = 0,
    force_torch: bool = False,
    *,
    traversals: Sequence[Traversal] | None = None,
) -> Tensor:
    """Lay K traversals of a grid (H, W) of L = H W points out as sequences; differentiable.

    Args:
        x: (B, C, H, W), or (B, H, W, C) without ``in_channel_first``. With ``one_by_one``, an x
            for each traversal: (B, K, C, H, W), or (B, H, W, K, C).
        in_channel_first: the channels of x come before its grid.
        out_channel_first: return (B, K, C, L), not (B, L, K, C).
        one_by_one: x has its own values for each traversal.
        scans: 0 for the four of ``CROSS_2D``, 1 for row-major four times, 2 for row-major and
            row-major reversed two times each.
        force_torch: no effect; there is one implementation.
        traversals: in the place of ``scans``, any traversals of a grid of any number of axes.

    Returns:
        (B, K, C, L) or (B, L, K, C): ``out[:, k, :, t] = x[:, :, p_k(t)]`` with p_k of (X1).
    """
    traversals = _chosen(scans, traversals)
    x = _natural("x", x, traversals, in_channel_first, one_by_one)
    rows = [lay_out(x[:, k] if one_by_one else x, t) for k, t in enumerate(traversals)]
    return _stacked(rows, out_channel_first)


def cross_merge(
    y: Tensor,
    in_channel_first: bool = True,
    out_channel_first: bool = True,
    one_by_one: bool = False,
    scans: int = 0,
    force_torch: bool = False,
    *,
    traversals: Sequence[Traversal] | None = None,
) -> Tensor:
    """Undo each of K traversals and sum them: the transpose of :func:`cross_scan`; differentiable.

    The layouts are called as in :func:`cross_scan`: ``out_channel_first`` is about y here, and
    ``in_channel_first`` about the result.

    Args:
        y: (B, K, C, H, W), or (B, H, W, K, C) without ``out_channel_first``: K sequences of
            H W steps; their axis is split so that the grid is known, its values are in sweep order.
        in_channel_first: return the channels before the points.
        out_channel_first: the channels of y come before its steps.
        one_by_one: undo the traversals without summing them.
        scans: as for :func:`cross_scan`.
        force_torch: no effect; there is one implementation.
        traversals: in the place of ``scans``, any traversals of a grid of any number of axes.

    Returns:
        (B, C, L), or (B, L, C) without ``in_channel_first``; with ``one_by_one`` (B, K, C, L) or
        (B, L, K, C).
    """
    traversals = _chosen(scans, traversals)
    y = _natural("y", y, traversals, out_channel_first, True)
    grid = y.shape[3:]
    rows = [put_back(y[:, k].flatten(2), t, grid).flatten(2) for k, t in enumerate(traversals)]
    if one_by_one:
        return _stacked(rows, in_channel_first)
    merged = reduce(torch.add, rows)
    return merged if in_channel_first else merged.transpose(1, 2).contiguous()


def _chosen(scans: int, traversals: Sequence[Traversal] | None) -> tuple[Traversal, ...]:
    if traversals is None:
        if scans not in SCANS:
            raise ValueError(f"scans is {scans!r}; expected 0, 1 or 2")
        return SCANS[scans]
    checked = check_traversals(traversals)
    if len({len(t.axes) for t in checked}) > 1:
        raise ValueError(f"traversals is {checked}; expected orders of the same axes")
    return checked


def _natural(
    name: str,
    v: Tensor,
    traversals: tuple[Traversal, ...],
    channel_first: bool,
    per_traversal: bool,
) -> Tensor:
    """v as (B, C, *grid), or (B, K, C, *grid) if it has values for each traversal."""
    axes, count = len(traversals[0].axes), len(traversals)
    letters = "K, C" if per_traversal else "C"
    expected = f"(B, {letters}, *grid)" if channel_first else f"(B, *grid, {letters})"
    if not isinstance(v, Tensor):
        raise TypeError(f"{name} is of type {type(v).__name__}; expected a Tensor {expected}")
    if v.dim() != 1 + axes + (2 if per_traversal else 1):
        raise ValueError(
            f"{name} has shape {tuple(v.shape)}; expected {expected}, a grid of {axes} axes"
        )
    if not channel_first:
        v = v.movedim(tuple(range(1, 1 + axes)), tuple(range(-axes, 0)))
    if per_traversal and v.shape[1] != count:
        raise ValueError(f"{name} has values for K = {v.shape[1]} traversals; expected K = {count}")
    return v


def _stacked(rows: list[Tensor], channel_first: bool) -> Tensor:
    """(B, K, C, L) or (B, L, K, C) from K of (B, C, L)."""
    if channel_first:
        return torch.stack(rows, dim=1)
    return torch.stack([row.transpose(1, 2) for row in rows], dim=2)
