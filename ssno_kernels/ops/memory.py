# SPDX-License-Identifier: MIT
"""The order of a tensor's axes in memory, also where torch.compile has its strides as symbols."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def memory_order(strides: Sequence[int]) -> list[int]:
    """The axes from the slowest to the fastest; of equal strides the first axis is the slower.

    Places are counted, since torch.compile cannot sort by symbols.
    """
    axes = range(len(strides))

    def slower(i: int, j: int) -> bool:
        return strides[i] > strides[j] or (strides[i] == strides[j] and i < j)

    return inverse([sum(1 for i in axes if i != j and slower(i, j)) for j in axes])


def inverse(order: Sequence[int]) -> list[int]:
    """The permutation that undoes `order`."""
    return sorted(range(len(order)), key=order.__getitem__)


def in_order(x: Tensor, order: Sequence[int]) -> Tensor:
    """x with its axes in this order in memory, copied if need be."""
    return x.permute(*order).contiguous().permute(*inverse(order))
