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

import importlib
import math

import torch
from torch import Tensor

from ..selective_scan.function import checkpoint_interval
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
_library = torch.library.Library("ssno_kernels", "FRAGMENT")


def as_numbers(traversals: tuple[Traversal, ...]) -> list[int]:
    """Traversals as a kernel's schema takes them."""
    return [n for t in traversals for n in (*t.axes, int(t.reverse))]


def cross_selective_scan(backend: str, *arguments) -> Tensor:
    """The result by the kernels of a backend."""
    a = canonical(Arguments(*arguments))
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in a[:8])
    interval = checkpoint_interval(a.A.shape[2])
    options = (backend, a.delta_softplus, a.traversals, a.stack, interval, save)
    return CrossSelectiveScan.apply(options, *a[:8])[0]


class CrossSelectiveScan(torch.autograd.Function):
    """out, checkpoints from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(options, x, delta, A, B, C, D, delta_bias, delta_weight):
        backend, delta_softplus, traversals, stack, interval, save = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        return _operator("fwd", backend)(
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
        delta_softplus, traversals, stack, interval = ctx.options
        if v_out is None:
            return (None,) * 9
        if not ctx.saved:
            _, checkpoints = _operator("fwd", ctx.backend)(
                *(t if t is None else t.detach() for t in tensors),
                *(delta_softplus, as_numbers(traversals), stack, interval),
            )
        needs = list(ctx.needs_input_grad[1:])
        cotangents = CrossSelectiveScanBackward.apply(
            (ctx.backend, *ctx.options, needs), checkpoints, v_out, *tensors
        )
        return None, *(v if need else None for v, need in zip(cotangents, needs, strict=True))


class CrossSelectiveScanBackward(torch.autograd.Function):
    """The eight cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, checkpoints, v_out, x, delta, A, B, C, D, delta_bias, delta_weight):
        backend, delta_softplus, traversals, stack, interval, needs = options
        tensors = (x, delta, A, B, C, D, delta_bias, delta_weight)
        return _operator("bwd", backend)(
            *(v_out, checkpoints, *tensors, delta_softplus),
            *(as_numbers(traversals), stack, interval, needs),
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, *ctx.options, _, ctx.needs = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        """The vector-Jacobian product, in the directions w, of that of the composite."""
        given = ctx.saved_tensors  # v_out, x, ..., delta_weight
        present = [i for i, t in enumerate(given) if t is not None]

        def cotangents(*values):
            full = [None] * len(given)
            for i, value in zip(present, values, strict=True):
                full[i] = value
            v_out, *tensors = full

            def primal(*wanted):
                chosen = iter(wanted)
                inputs = [
                    next(chosen) if need else t for t, need in zip(tensors, ctx.needs, strict=True)
                ]
                return composite.scan(*inputs, *ctx.options)

            wanted = [t for t, need in zip(tensors, ctx.needs, strict=True) if need]
            _, pull = torch.func.vjp(primal, *wanted)
            return pull(v_out)

        v, pull = torch.func.vjp(cotangents, *(given[i] for i in present))
        w = [x for x, need in zip(w, ctx.needs, strict=True) if need]
        w = tuple(torch.zeros_like(x) if y is None else y for x, y in zip(v, w, strict=True))
        second = [None] * len(given)
        for i, value in zip(present, pull(w), strict=True):
            second[i] = value
        return None, None, *second


def _operator(direction: str, backend: str):
    return getattr(torch.ops.ssno_kernels, f"cross_selective_scan_{direction}_{backend}").default


def _fake_fwd(
    x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus, traversals, stack, interval
):
    count, channels, states = A.shape
    length = math.prod(x.shape[2:])
    saved = (length + interval - 1) // interval - 1 if interval else 0
    sizes = (x.shape[0], count, saved, states, channels) if interval else (0,)
    return empty_result(x, count, stack), A.new_empty(sizes)


def _fake_bwd(v_out, checkpoints, *inputs):
    tensors, needs = inputs[:8], inputs[12]
    return tuple(
        torch.empty_like(t) if need and t is not None else v_out.new_empty(0)
        for t, need in zip(tensors, needs, strict=True)
    )


def _triton(direction: str):
    def kernel(*arguments):
        module = importlib.import_module(".kernel_triton", __package__)
        return getattr(module, f"cross_selective_scan_{direction}_triton")(*arguments)

    return kernel


for _direction, _fake in (("fwd", _fake_fwd), ("bwd", _fake_bwd)):
    for _backend in ("cpu", "triton"):
        _name = f"cross_selective_scan_{_direction}_{_backend}"
        _library.define(_name + _SCHEMAS[_direction])
        torch.library.register_fake(f"ssno_kernels::{_name}", _fake, lib=_library)
    _library.impl(
        f"cross_selective_scan_{_direction}_triton",
        _triton(_direction),
        "CompositeExplicitAutograd",
    )
# cross_selective_scan_*_cpu are implemented in csrc
