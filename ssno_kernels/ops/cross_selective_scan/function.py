# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `cross_selective_scan`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    cross_selective_scan_fwd_X(x, ..., delta_weight, delta_softplus, traversals, stack, interval)
        -> (out, checkpoints)
    cross_selective_scan_bwd_X(v_out, checkpoints, x, ..., delta_weight, delta_softplus,
                               traversals, stack, interval, needs) -> eight cotangents

on canonical arguments (see `arguments.canonical`) of the public shapes and any strides.
`traversals` holds for each its axes, the slowest first, then 1 if it is reversed, else 0.
checkpoints (B, rows, D) holds the state before sweep steps interval, 2 interval, ... of each
traversal, N rows each; `interval` 0 asks for none. The result has the layout that
`layout.empty_result` gives it. What was not asked for is returned as an empty tensor. Derivatives
of the second and any higher order go through the composite.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ..kernels import define, kernel, like_or_empty
from ..selective_scan.function import checkpoint_interval, checkpoint_rows
from ..transforms import (
    Axes,
    Context,
    Operation,
    call,
    cotangents,
    not_needed,
    of_needed,
    pullback,
)
from . import composite
from .arguments import Arguments, canonical
from .layout import empty_result
from .traversals import Traversal

if TYPE_CHECKING:
    from typing_extensions import Unpack

Maybe = Tensor | None
_Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Maybe, Maybe, Maybe]
_Options = tuple[str, bool, tuple[Traversal, ...], bool, int, bool]
"""backend, delta_softplus, traversals, stack, interval, whether to save checkpoints"""
_BackwardOptions = tuple[str, bool, tuple[Traversal, ...], bool, int, list[bool]]
"""backend, delta_softplus, traversals, stack, interval, needs"""

_INPUTS = (
    "Tensor x, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? delta_bias, "
    "Tensor? delta_weight, bool delta_softplus, int[] traversals, bool stack"
)
_SCHEMAS = {
    "fwd": f"({_INPUTS}, int interval) -> (Tensor, Tensor)",
    "bwd": f"(Tensor v_out, Tensor checkpoints, {_INPUTS}, int interval, bool[] needs) -> "
    f"({', '.join(['Tensor'] * 8)})",
}


def as_numbers(traversals: tuple[Traversal, ...]) -> list[int]:
    """Traversals as a kernel's schema takes them."""
    return [n for t in traversals for n in (*t.axes, int(t.reverse))]


def cross_selective_scan(backend: str, arguments: Arguments) -> Tensor:
    """The result by the kernels of a backend."""
    a = canonical(arguments)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in a[:8])
    interval = checkpoint_interval(a.A.shape[2])
    options = (backend, a.delta_softplus, a.traversals, a.stack, interval, save)
    out: Tensor = call(CrossSelectiveScan, options, *a[:8])[0]
    return out


class _Context(Context, Protocol):
    saved_tensors: tuple[Unpack[_Tensors], Tensor]
    backend: str
    scan: tuple[bool, tuple[Traversal, ...], bool, int]
    saved: bool


class _BackwardContext(Context, Protocol):
    saved_tensors: tuple[Tensor, Unpack[_Tensors]]
    options: _BackwardOptions


class CrossSelectiveScan(Operation):
    """out, checkpoints from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(
        options: _Options, x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe,
        delta_bias: Maybe, delta_weight: Maybe,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        backend, delta_softplus, traversals, stack, interval, save = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        result: tuple[Tensor, Tensor] = kernel("cross_selective_scan", "fwd", backend)(
            *tensors, delta_softplus, as_numbers(traversals), stack, interval if save else 0
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _Context, inputs: tuple[_Options, Unpack[_Tensors]], output: tuple[Tensor, Tensor]
    ) -> None:
        options = inputs[0]
        ctx.backend, ctx.scan, ctx.saved = options[0], options[1:5], options[5]
        ctx.save_for_backward(*inputs[1:], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, v_out: Maybe, _: None) -> tuple[Maybe, ...]:
        saved = ctx.saved_tensors
        tensors, checkpoints = saved[:8], saved[8]
        if v_out is None:
            return (None,) * 9
        if not ctx.saved:
            detached = (t if t is None else t.detach() for t in tensors)
            _, checkpoints = call(CrossSelectiveScan, (ctx.backend, *ctx.scan, True), *detached)
        needs = list(ctx.needs_input_grad[1:])
        options = (ctx.backend, *ctx.scan, needs)
        v = call(CrossSelectiveScanBackward, options, checkpoints, v_out, *tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options: _Options, *tensors: Unpack[_Tensors]) -> tuple[Tensor, None]:
        return composite.scan(*tensors, *options[1:4]), None

    @staticmethod
    def batch_axes(options: _Options, ranks: Sequence[int]) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0, 0 if options[-1] else None)


class CrossSelectiveScanBackward(Operation):
    """The eight cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(
        options: _BackwardOptions, checkpoints: Tensor, v_out: Tensor, x: Tensor, delta: Tensor,
        A: Tensor, B: Tensor, C: Tensor, D: Maybe, delta_bias: Maybe, delta_weight: Maybe,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        backend, delta_softplus, traversals, stack, interval, needs = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        result: tuple[Tensor, ...] = kernel("cross_selective_scan", "bwd", backend)(
            *(v_out, checkpoints, *tensors, delta_softplus),
            *(as_numbers(traversals), stack, interval, needs),
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _BackwardContext,
        inputs: tuple[_BackwardOptions, Tensor, Tensor, Unpack[_Tensors]],
        output: tuple[Tensor, ...],
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _BackwardContext, *w: Maybe) -> tuple[Maybe, ...]:
        run = partial(CrossSelectiveScanBackward.composite, ctx.options, None)
        return None, None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(
        options: _BackwardOptions, checkpoints: Maybe, v_out: Tensor, *tensors: Unpack[_Tensors]
    ) -> list[Maybe]:
        def run(*inputs: Unpack[_Tensors]) -> Tensor:
            return composite.scan(*inputs, *options[1:4])

        return cotangents(run, (v_out,), tensors, options[-1])

    @staticmethod
    def batch_axes(options: _BackwardOptions, ranks: Sequence[int]) -> tuple[Axes, Axes | None]:
        return (0, 0, *_BATCH_AXES), of_needed(_BATCH_AXES, options[-1])


_BATCH_AXES = (0, 0, None, 0, 0, None, None, None)


def _fake_fwd(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe, delta_bias: Maybe,
    delta_weight: Maybe, delta_softplus: bool, traversals: list[int], stack: bool, interval: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    count, channels, states = A.shape
    length = math.prod(x.shape[2:])
    rows = checkpoint_rows(length, interval, states, count) if interval else 0
    sizes = (x.shape[0], rows, channels) if interval else (0,)
    return empty_result(x, count, stack), A.new_empty(sizes)


def _fake_bwd(
    v_out: Tensor,
    checkpoints: Tensor,
    *inputs: Unpack[tuple[Unpack[_Tensors], bool, list[int], bool, int, list[bool]]],
) -> tuple[Tensor, ...]:
    return like_or_empty(*inputs[:8], needs=inputs[12])


define("cross_selective_scan", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
