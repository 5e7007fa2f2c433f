# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `cross_selective_scan`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    cross_selective_scan_fwd_X(x, ..., delta_weight, delta_softplus, traversals, stack, interval)
        -> (out, checkpoints)
    cross_selective_scan_bwd_X(v_out, checkpoints, x, ..., delta_weight, delta_softplus,
                               traversals, stack, interval, needs) -> eight cotangents

on canonical arguments (see `arguments.canonical`) of the public shapes and any strides.
`traversals` holds for each its axes, the slowest first, then 1 if it is reversed, else 0.
checkpoints (B, K, ceil(L / interval) - 1, N, D) holds the state before sweep steps interval,
2 interval, ... of each traversal; `interval` 0 asks for none. The result has the layout that
`layout.empty_result` gives it. What was not asked for is returned as an empty tensor. Derivatives
of the second and any higher order go through the composite.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor

from ..kernels import define, kernel, like_or_empty
from ..selective_scan.function import checkpoint_interval
from ..transforms import Axes, call, cotangents, not_needed, of_needed, pullback
from . import composite
from .arguments import Arguments, canonical
from .layout import empty_result
from .traversals import Traversal

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


def cross_selective_scan(backend: str, *arguments) -> Tensor:
    """The result by the kernels of a backend."""
    a = canonical(Arguments(*arguments))
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in a[:8])
    interval = checkpoint_interval(a.A.shape[2])
    options = (backend, a.delta_softplus, a.traversals, a.stack, interval, save)
    return call(CrossSelectiveScan, options, *a[:8])[0]


class CrossSelectiveScan(torch.autograd.Function):
    """out, checkpoints from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(options, x, delta, A, B, C, D, delta_bias, delta_weight):
        backend, delta_softplus, traversals, stack, interval, save = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        return kernel("cross_selective_scan", "fwd", backend)(
            *tensors, delta_softplus, as_numbers(traversals), stack, interval if save else 0
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.backend, *ctx.options, ctx.saved = inputs[0]
        ctx.save_for_backward(*inputs[1:], output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, v_out, _):
        *tensors, checkpoints = ctx.saved_tensors
        if v_out is None:
            return (None,) * 9
        if not ctx.saved:
            detached = (t if t is None else t.detach() for t in tensors)
            _, checkpoints = call(CrossSelectiveScan, (ctx.backend, *ctx.options, True), *detached)
        needs = list(ctx.needs_input_grad[1:])
        options = (ctx.backend, *ctx.options, needs)
        v = call(CrossSelectiveScanBackward, options, checkpoints, v_out, *tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options, *tensors):
        return composite.scan(*tensors, *options[1:4]), None

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0, 0 if options[-1] else None)


class CrossSelectiveScanBackward(torch.autograd.Function):
    """The eight cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, checkpoints, v_out, x, delta, A, B, C, D, delta_bias, delta_weight):
        backend, delta_softplus, traversals, stack, interval, needs = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        return kernel("cross_selective_scan", "bwd", backend)(
            *(v_out, checkpoints, *tensors, delta_softplus),
            *(as_numbers(traversals), stack, interval, needs),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        run = partial(CrossSelectiveScanBackward.composite, ctx.options, None)
        return None, None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(options, checkpoints, v_out, *tensors):
        def run(*inputs):
            return composite.scan(*inputs, *options[1:4])

        return cotangents(run, (v_out,), tensors, options[-1])

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes | None]:
        return (0, 0, *_BATCH_AXES), of_needed(_BATCH_AXES, options[-1])


_BATCH_AXES = (0, 0, None, 0, 0, None, None, None)


def _fake_fwd(
    x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus, traversals, stack, interval
):
    count, channels, states = A.shape
    length = math.prod(x.shape[2:])
    saved = (length + interval - 1) // interval - 1 if interval else 0
    sizes = (x.shape[0], count, saved, states, channels) if interval else (0,)
    return empty_result(x, count, stack), A.new_empty(sizes)


def _fake_bwd(v_out, checkpoints, *inputs):
    return like_or_empty(inputs[:8], inputs[12])


define("cross_selective_scan", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
