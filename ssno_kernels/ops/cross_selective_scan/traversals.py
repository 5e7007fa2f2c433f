# SPDX-License-Identifier: MIT
"""Traversals: the orders in which a scan visits the points of a grid."""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

from torch import Size, Tensor


class Traversal(NamedTuple):
    """An order of the grid's axes, the slowest first, and whether it runs from the far end.

    ``Traversal((0, 1))`` visits the rows of a grid (H, W) one after the other; ``(1, 0)`` its
    columns. Axes are counted after batch and channels. A reversed traversal visits the same points
    in the opposite order.
    """

    axes: tuple[int, ...]
    reverse: bool = False


def both_ways(forward: tuple[Traversal, ...]) -> tuple[Traversal, ...]:
    """These traversals, then the same from the far end."""
    return (*forward, *(Traversal(t.axes, not t.reverse) for t in forward))


def every_order(axes: int) -> tuple[Traversal, ...]:
    """All orders of so many axes, row-major first, column-major last."""
    return tuple(Traversal(order) for order in permutations(range(axes)))


CROSS_1D = both_ways(every_order(1))
"""Forward, reversed."""
CROSS_2D = both_ways(every_order(2))
"""Row-major, column-major, row-major reversed, column-major reversed."""
CROSS_3D = every_order(3)
"""The 6 orders of three axes."""
CROSS_3D_BOTH = both_ways(CROSS_3D)
"""The 6 orders of three axes, then their 6 reversals."""


def lay_out(v: Tensor, traversal: Traversal) -> Tensor:
    """(X1): (..., *grid) as (..., L) in the order of the traversal."""
    axes = len(traversal.axes)
    first = v.dim() - axes
    row = v.permute(*range(first), *(first + axis for axis in traversal.axes)).flatten(first)
    return row.flip(-1) if traversal.reverse else row


def put_back(row: Tensor, traversal: Traversal, grid: Size) -> Tensor:
    """The inverse of `lay_out`."""
    row = row.flip(-1) if traversal.reverse else row
    v: Tensor = row.unflatten(-1, [grid[axis] for axis in traversal.axes])
    first = v.dim() - len(grid)
    back = (first + traversal.axes.index(axis) for axis in range(len(grid)))
    return v.permute(*range(first), *back)


def check_traversals(traversals: object) -> tuple[Traversal, ...]:
    """The same as a tuple of `Traversal`; plain pairs (axes, reverse) are taken, too."""
    if not isinstance(traversals, (tuple, list)):
        kind = type(traversals).__name__
        raise TypeError(f"traversals is of type {kind}; expected a sequence of Traversal")
    if not traversals:
        raise ValueError("traversals is empty; expected at least one Traversal")
    return tuple(_check_one(k, t) for k, t in enumerate(traversals))


def _check_one(k: int, given: object) -> Traversal:
    if not (
        isinstance(given, tuple)
        and len(given) == 2
        and isinstance(given[0], (tuple, list))
        and all(isinstance(axis, int) for axis in given[0])
        and isinstance(given[1], bool)
    ):
        raise TypeError(
            f"traversals[{k}] is {given!r}; expected Traversal(axes, reverse), such as "
            "Traversal((0, 1), False)"
        )
    axes, count = given[0], len(given[0])
    # looked up, not taken over: torch.compile may trace the integers it is given as symbols
    known = tuple(i for axis in axes for i in range(count) if axis == i)
    if not known or len(set(known)) != count:
        raise ValueError(
            f"traversals[{k}] has axes {tuple(axes)}; expected every axis of the grid once, "
            "such as (0, 1) or (1, 0)"
        )
    return Traversal(known, given[1])
