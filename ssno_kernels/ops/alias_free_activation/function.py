# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `alias_free_activation`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    alias_free_activation_fwd_X(x, up_filter, down_filter, bias, up, down, padding, activation,
                                negative_slope, gain) -> out
    alias_free_activation_bwd_X(v_out, x, ..., gain, needs) -> (v_x, v_bias)

on canonical arguments (see `arguments.canonical`), `activation` as its place in
`arguments.ACTIVATIONS`. What is not needed is returned as an empty tensor. Nothing is saved but the
arguments: the backward recomputes the upsampled signal. The filters' cotangents, and derivatives of
the second and any higher order, go through the composite.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..kernels import define, kernel
from ..transforms import Axes, call, cotangents, not_needed, of_needed, pullback
from . import composite
from .arguments import ACTIVATIONS, TENSORS, Arguments, canonical, empty_output, output_grid

_INPUTS = (
    "Tensor x, Tensor up_filter, Tensor down_filter, Tensor? bias, int up, int down, "
    "int[] padding, int activation, float negative_slope, float gain"
)
_SCHEMAS = {
    "fwd": f"({_INPUTS}) -> Tensor",
    "bwd": f"(Tensor v_out, {_INPUTS}, bool[] needs) -> (Tensor, Tensor)",
}


def alias_free_activation(backend: str, *arguments) -> Tensor:
    """The output by the kernels of a backend."""
    a = canonical(Arguments(*arguments))
    return call(AliasFreeActivation, (backend, *a[TENSORS:]), *a[:TENSORS])


class AliasFreeActivation(torch.autograd.Function):
    """out from canonical arguments."""

    @staticmethod
    def forward(options, x, up_filter, down_filter, bias):
        backend, up, down, padding, activation, slope, gain = options
        tensors = (x, up_filter, down_filter, bias)
        return kernel("alias_free_activation", "fwd", backend)(
            *tensors, up, down, list(padding), ACTIVATIONS.index(activation), slope, gain
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, v_out):
        if v_out is None:
            return (None,) * 5
        needs = list(ctx.needs_input_grad[1:])
        v = call(AliasFreeActivationBackward, (ctx.options, needs), v_out, *ctx.saved_tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options, *tensors):
        return composite.activate(*tensors, *options[1:])

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0,)


class AliasFreeActivationBackward(torch.autograd.Function):
    """The four cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, v_out, x, up_filter, down_filter, bias):
        (backend, up, down, padding, activation, slope, gain), needs = options
        tensors = (x, up_filter, down_filter, bias)
        v_x, v_bias, v_up_filter, v_down_filter = (x.new_empty(0) for _ in range(4))
        if needs[0] or needs[3]:
            v_x, v_bias = kernel("alias_free_activation", "bwd", backend)(
                *(v_out, *tensors, up, down, list(padding), ACTIVATIONS.index(activation)),
                *(slope, gain, [needs[0], needs[3]]),
            )
        if needs[1] or needs[2]:
            v_up_filter, v_down_filter = composite.filter_cotangents(
                v_out, *tensors, *options[0][1:]
            )
        return v_x, v_up_filter, v_down_filter, v_bias

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        run = partial(AliasFreeActivationBackward.composite, ctx.options)
        return None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(options, v_out, *tensors):
        (_, *options), needs = options

        def run(*inputs):
            return composite.activate(*inputs, *options)

        return cotangents(run, (v_out,), tensors, needs)

    @staticmethod
    def batch_axes(options, ranks) -> tuple[Axes, Axes | None]:
        return (0, *_BATCH_AXES), of_needed(_BATCH_AXES, options[1])


_BATCH_AXES = (0, None, None, None)


def _fake_fwd(x, up_filter, down_filter, bias, up, down, padding, activation, slope, gain):
    return empty_output(x, output_grid(x, up_filter, down_filter, up, down, padding))


def _fake_bwd(v_out, x, up_filter, down_filter, bias, *options):
    need_x, need_bias = options[-1]
    v_x = torch.empty_like(x) if need_x else x.new_empty(0)
    return v_x, torch.empty_like(bias) if need_bias else x.new_empty(0)


define("alias_free_activation", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
