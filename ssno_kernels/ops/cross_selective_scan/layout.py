# SPDX-License-Identifier: MIT
"""The memory layout of results: that of x, with the axis of the traversals inside the batch."""

from __future__ import annotations

from torch import Tensor


def _order(x: Tensor, stack: bool) -> list[int]:
    """The axes of a result from the slowest to the fastest in memory; natural if x has holes."""
    strides = x.stride()
    first = x.shape[0] < 2  # the stride of such a batch says nothing

    def slower(i: int, j: int) -> bool:
        if first and 0 in (i, j):
            return i == 0
        return strides[i] > strides[j] or (strides[i] == strides[j] and i < j)

    # places are counted, since torch.compile cannot sort by strides that it has as symbols
    axes = range(x.dim())
    order = _inverse([sum(1 for i in axes if i != j and slower(i, j)) for j in axes])
    if not x.permute(order).is_contiguous():
        order = list(range(x.dim()))
    if not stack:
        return order
    return [i for axis in order for i in ((0, 1) if axis == 0 else (axis + 1,))]


def _inverse(order: list[int]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def empty_result(x: Tensor, traversals: int, stack: bool) -> Tensor:
    """Uninitialised (B, D, *grid), or (B, K, D, *grid) to stack, in the layout of x."""
    sizes = [x.shape[0], *([traversals] if stack else []), *x.shape[1:]]
    order = _order(x, stack)
    return x.new_empty([sizes[axis] for axis in order]).permute(_inverse(order))


def in_layout_of(x: Tensor, result: Tensor, stack: bool) -> Tensor:
    """The result in the layout of x, copied if need be."""
    order = _order(x, stack)
    return result.permute(order).contiguous().permute(_inverse(order))
