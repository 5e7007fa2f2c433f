# SPDX-License-Identifier: MIT
"""Triton backend of `cross_selective_scan`: one launch of the selective scan for each traversal.

A traversal is a permutation of strides (`selective_scan/kernel_triton_launch`), so that nothing is
permuted or flipped in memory. The launches follow one another: each adds to what those before have
written, in an order that is always the same, and takes the scratch of the one before. There is no
tensor K times as large as x, but for what the arguments and results themselves are; 16-bit results
are summed in one float32 tensor of the size of x and rounded once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..selective_scan.function import checkpoint_rows
from ..selective_scan.kernel_triton_arguments import Inputs
from ..selective_scan.kernel_triton_bwd import Gradients
from ..selective_scan.kernel_triton_launch import backward, forward
from .layout import empty_result
from .traversals import Traversal


def _unpacked(numbers: list[int], axes: int) -> list[Traversal]:
    """The inverse of `function.as_numbers`."""
    rows = [numbers[i : i + axes + 1] for i in range(0, len(numbers), axes + 1)]
    return [Traversal(tuple(row[:-1]), bool(row[-1])) for row in rows]


def _along(v: Tensor, traversal: Traversal) -> Tensor:
    """A view with the axes of the grid, the last ones, in the order of the traversal."""
    first = v.dim() - len(traversal.axes)
    return v.permute(*range(first), *(first + axis for axis in traversal.axes))


def _of(tensors: Sequence[Tensor | None], k: int, traversal: Traversal) -> tuple[Any, ...]:
    """What belongs to traversal k, in its order, of the eight arguments or of their cotangents.

    They come as the ten that the selective scan has, None where they were.
    """
    x, delta, A, B, C, D, bias, weight = tensors
    A, D, bias, weight = (None if p is None else p[k] for p in (A, D, bias, weight))
    delta = None if delta is None else delta[:, k]
    B, C = (None if M is None else M[:, k, None] for M in (B, C))
    x, delta, B, C = (None if v is None else _along(v, traversal) for v in (x, delta, B, C))
    return x, delta, A, B, C, D, None, bias, weight, None


class _Sum:
    """Where the launches write a result they sum, and what each is to add to."""

    def __init__(self, result: Tensor, count: int, dtype: torch.dtype) -> None:
        self.result, self.last = result, count - 1
        exact = count == 1 or result.dtype == dtype
        self.total = result if exact else torch.empty_like(result, dtype=dtype)

    def launch(self, k: int) -> tuple[Tensor, Tensor | None]:
        return self.result if k == self.last else self.total, self.total if k else None


def _of_sweep(checkpoints: Tensor, k: int, count: int) -> Tensor:
    return checkpoints[:, k * (checkpoints.shape[1] - 2) // count :]


def cross_selective_scan_fwd_triton(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    bias: Tensor | None, weight: Tensor | None, softplus: bool, traversals: list[int],
    stack: bool, interval: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(out, checkpoints); see `function`."""
    tensors = (x, delta, A, B, C, D, bias, weight)
    count, channels, states = A.shape
    checkpoints = A.new_empty(0)
    if interval:
        rows = checkpoint_rows(math.prod(x.shape[2:]), interval, states, count)
        checkpoints = A.new_empty(x.shape[0], rows, channels)
        checkpoints[:, -2:] = 0
    out = empty_result(x, count, stack)
    merged = None if stack else _Sum(out, count, A.dtype)
    for k, traversal in enumerate(_unpacked(traversals, x.dim() - 2)):
        to, before = merged.launch(k) if merged else (out[:, k], None)
        forward(
            Inputs(*_of(tensors, k, traversal)),
            softplus,
            traversal.reverse,
            _along(to, traversal),
            before=None if before is None else _along(before, traversal),
            checkpoints=_of_sweep(checkpoints, k, count) if interval else None,
            interval=interval,
            scans=count,
        )
    return out, checkpoints


def cross_selective_scan_bwd_triton(
    v_out: Tensor, checkpoints: Tensor, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor,
    D: Tensor | None, bias: Tensor | None, weight: Tensor | None, softplus: bool,
    traversals: list[int], stack: bool, interval: int, needs: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    """The eight cotangents; see `function`."""
    tensors = (x, delta, A, B, C, D, bias, weight)
    results = [
        torch.empty_like(t) if need and t is not None else None
        for need, t in zip(needs, tensors, strict=True)
    ]
    count = A.shape[0]
    v_x = None if results[0] is None else _Sum(results[0], count, A.dtype)
    for k, traversal in enumerate(_unpacked(traversals, x.dim() - 2)):
        to, before = v_x.launch(k) if v_x else (None, None)
        backward(
            Inputs(*_of(tensors, k, traversal)),
            softplus,
            traversal.reverse,
            _along(v_out[:, k] if stack else v_out, traversal),
            None,
            Gradients(*_of((to, *results[1:]), k, traversal)),
            _of_sweep(checkpoints, k, count),
            interval,
            v_u_before=None if before is None else _along(before, traversal),
            scans=count,
        )
    return tuple(x.new_empty(0) if v is None else v for v in results)
