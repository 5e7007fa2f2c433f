# SPDX-License-Identifier: MIT
"""The memory layout of results: that of x, with the axis of the traversals inside the batch."""

from __future__ import annotations

from torch import Tensor

from ..memory import in_order, inverse, memory_order


def _order(x: Tensor, stack: bool) -> list[int]:
    """The axes of a result from the slowest to the fastest in memory; natural if x has holes."""
    strides = list(x.stride())
    if x.shape[0] < 2:  # the stride of such a batch says nothing
        strides[0] = max(strides)
    order = memory_order(strides)
    if not x.permute(order).is_contiguous():
        order = list(range(x.dim()))
    if not stack:
        return order
    return [i for axis in order for i in ((0, 1) if axis == 0 else (axis + 1,))]


def empty_result(x: Tensor, traversals: int, stack: bool) -> Tensor:
    """Uninitialised (B, D, *grid), or (B, K, D, *grid) to stack, in the layout of x."""
    sizes = [x.shape[0], *([traversals] if stack else []), *x.shape[1:]]
    order = _order(x, stack)
    return x.new_empty([sizes[axis] for axis in order]).permute(inverse(order))


def in_layout_of(x: Tensor, result: Tensor, stack: bool) -> Tensor:
    """The result in the layout of x, copied if need be."""
    return in_order(result, _order(x, stack))
