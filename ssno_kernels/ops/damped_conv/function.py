# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `damped_conv`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    damped_conv_fwd_X(u, rate, coeff, D, initial_state, direction, periodic, dim, want_state)
        -> (out, final_state)
    damped_conv_bwd_X(v_out, v_final_state, u, rate, coeff, D, initial_state,
                      direction, periodic, dim, needs)
        -> (v_u, v_rate, v_coeff, v_D, v_initial_state)

on canonical arguments (see `arguments.Canonical`); final_state is as initial_state. What was not
asked for is returned as an empty tensor. Those of `cuda` are told besides whether products of
float32 may run in tf32. The backward kernel computes the states anew: nothing but
the arguments is saved. Derivatives of the second and any higher order go through the composite.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ...registry import constant_when_traced
from ..kernels import define, kernel, like_or_empty
from ..transforms import Axes, call, cotangents, not_needed, of_needed, pullback
from . import composite
from .arguments import Arguments, canonical, final_state_of

_INPUTS = (
    "Tensor u, Tensor rate, Tensor coeff, Tensor? D, Tensor? initial_state, int direction, "
    "bool periodic, int dim"
)
_SCHEMAS = {
    "fwd": f"({_INPUTS}, bool want_state) -> (Tensor, Tensor)",
    "bwd": f"(Tensor v_out, Tensor? v_final_state, {_INPUTS}, bool[] needs) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor)",
}


def damped_conv(
    backend: str, want_state: bool, arguments: Arguments
) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by the kernels of a backend; final_state is None where not wanted."""
    a = canonical(arguments)
    options = (backend, a.direction, a.periodic, a.dim, want_state)
    out, state = call(DampedConv, options, *a[:5])
    return out, final_state_of(state) if want_state else None


class DampedConv(torch.autograd.Function):
    """out, final_state from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(options, u, rate, coeff, D, initial_state):
        backend, *options = options
        return kernel("damped_conv", "fwd", backend)(
            u, rate, coeff, D, initial_state, *options, *_more(backend)
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.backend, *ctx.options, want_state = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        if not want_state:
            ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, v_out, v_final_state):
        tensors = ctx.saved_tensors
        if v_out is None and v_final_state is None:
            return (None,) * 6
        if v_out is None:
            v_out = torch.zeros_like(tensors[0])
        needs = list(ctx.needs_input_grad[1:])
        options = (ctx.backend, *ctx.options, needs)
        v = call(DampedConvBackward, options, v_out, v_final_state, *tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options, *tensors):
        out, state = composite.convolve(*tensors, *options[1:-1])
        return out, state if options[-1] else None

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0, 1 if options[-1] else None)


class DampedConvBackward(torch.autograd.Function):
    """The five cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, v_out, v_state, u, rate, coeff, D, initial_state):
        backend, *options = options
        return kernel("damped_conv", "bwd", backend)(
            v_out, v_state, u, rate, coeff, D, initial_state, *options, *_more(backend)
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        run = partial(DampedConvBackward.composite, ctx.options)
        return None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(options, v_out, v_state, *tensors):
        def run(*inputs):
            return composite.convolve(*inputs, *options[1:-1])

        return cotangents(run, (v_out, v_state), tensors, options[-1])

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes | None]:
        return (0, 1, *_BATCH_AXES), of_needed(_BATCH_AXES, options[-1])


@constant_when_traced
def _allows_tf32() -> bool:
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _more(backend: str) -> tuple[bool, ...]:
    """What a backend's kernels are told beyond the schema."""
    return (_allows_tf32(),) if backend == "cuda" else ()


_BATCH_AXES = (0, None, None, None, 1)


def _fake_fwd(u, rate, coeff, D, initial_state, direction, periodic, dim, want_state, *more):
    sweeps, _, states, _ = coeff.shape
    others = [n for i, n in enumerate(u.shape) if i != dim]
    state = coeff.new_empty(sweeps, *others, states, 2) if want_state else coeff.new_empty(0)
    return torch.empty_like(u), state


def _fake_bwd(v_out, v_final_state, *inputs):
    return like_or_empty(inputs[:5], inputs[8])


define(
    "damped_conv",
    __package__,
    _SCHEMAS,
    {"fwd": _fake_fwd, "bwd": _fake_bwd},
    {"cuda": "bool tf32"},
)
