# SPDX-License-Identifier: MIT
"""PyTorch's bicubic, antialiased change of a grid, also where torch.compile has sizes as symbols.

PyTorch's backward of it (2.13) takes numbers alone, which fails a compilation for any grid: when
traced, it is called inside an operator that no tracer looks into.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import interpolate

from ..ops.kernels import define_in_python


def bicubic(x: Tensor, size: Sequence[int]) -> Tensor:
    """x (B, C, H, W) on a grid of `size` points, the same extent."""
    if torch.compiler.is_dynamo_compiling():
        resampled: Tensor = _Bicubic.apply(x, *size)  # type: ignore[no-untyped-call]
        return resampled
    return interpolate(x, size=list(size), mode="bicubic", antialias=True)


class _Bicubic(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, height: int, width: int) -> Tensor:
        ctx.sizes = x.shape
        return interpolate(x, size=[height, width], mode="bicubic", antialias=True)

    @staticmethod
    def backward(ctx: Any, v: Tensor) -> tuple[Tensor, None, None]:
        return torch.ops.ssno_kernels.bicubic_bwd(v, ctx.sizes), None, None


def _backward(v: Tensor, sizes: Sequence[int]) -> Tensor:
    run = torch.ops.aten._upsample_bicubic2d_aa_backward.default
    result: Tensor = run(v, v.shape[2:], list(sizes), False)
    return result


def _fake_backward(v: Tensor, sizes: Sequence[int]) -> Tensor:
    return v.new_empty(sizes)


define_in_python("bicubic_bwd", "(Tensor v, SymInt[] sizes) -> Tensor", _backward, _fake_backward)
