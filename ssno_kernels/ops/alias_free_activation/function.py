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

import importlib
import math

import torch
from torch import Tensor

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
_library = torch.library.Library("ssno_kernels", "FRAGMENT")


def alias_free_activation(backend: str, *arguments) -> Tensor:
    """The output by the kernels of a backend."""
    a = canonical(Arguments(*arguments))
    if backend == "triton" and _unrolls_too_far(a):
        return composite.activate(*a)
    return AliasFreeActivation.apply((backend, *a[TENSORS:]), *a[:TENSORS])


def _unrolls_too_far(a: Arguments) -> bool:
    """Whether filters or factors are too long for Triton kernels, which write every tap out.

    The limits are the samples along an axis that a period (the least common multiple of the
    factors) is filtered from, 24 and on three axes 10, and 512 numbers a thread.
    """
    period, axes = math.lcm(a.up, a.down), a.x.dim() - 2
    filters = ((a.up_filter, a.up), (a.down_filter, a.down))
    window = max((period + taps.shape[0]) // rate for taps, rate in filters) + 1
    phases = 1 << (period - 1).bit_length()  # that a thread has along an axis, a power of two
    return window > (24 if axes < 3 else 10) or window * phases ** max(axes - 1, 1) > 512


class AliasFreeActivation(torch.autograd.Function):
    """out from canonical arguments."""

    @staticmethod
    def forward(options, x, up_filter, down_filter, bias):
        backend, up, down, padding, activation, slope, gain = options
        tensors = (x, up_filter, down_filter, bias)
        return _operator("fwd", backend)(
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
        cotangents = AliasFreeActivationBackward.apply(
            (ctx.options, needs), v_out, *ctx.saved_tensors
        )
        return None, *(v if need else None for v, need in zip(cotangents, needs, strict=True))


class AliasFreeActivationBackward(torch.autograd.Function):
    """The four cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, v_out, x, up_filter, down_filter, bias):
        (backend, up, down, padding, activation, slope, gain), needs = options
        tensors = (x, up_filter, down_filter, bias)
        v_x, v_bias, v_up_filter, v_down_filter = (x.new_empty(0) for _ in range(4))
        if needs[0] or needs[3]:
            v_x, v_bias = _operator("bwd", backend)(
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
        ctx.options, ctx.needs = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        """The vector-Jacobian product, in the directions w, of that of the composite."""
        given = ctx.saved_tensors  # v_out, x, up_filter, down_filter, bias
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
                return composite.activate(*inputs, *ctx.options[1:])

            wanted = [t for t, need in zip(tensors, ctx.needs, strict=True) if need]
            _, pull = torch.func.vjp(primal, *wanted)
            return pull(v_out)

        v, pull = torch.func.vjp(cotangents, *(given[i] for i in present))
        w = [x for x, need in zip(w, ctx.needs, strict=True) if need]
        w = tuple(torch.zeros_like(x) if y is None else y for x, y in zip(v, w, strict=True))
        second = [None] * len(given)
        for i, value in zip(present, pull(w), strict=True):
            second[i] = value
        return None, *second


def _operator(direction: str, backend: str):
    name = f"alias_free_activation_{direction}_{backend}"
    return getattr(torch.ops.ssno_kernels, name).default


def _fake_fwd(x, up_filter, down_filter, bias, up, down, padding, activation, slope, gain):
    return empty_output(x, output_grid(x, up_filter, down_filter, up, down, padding))


def _fake_bwd(v_out, x, up_filter, down_filter, bias, *options):
    need_x, need_bias = options[-1]
    v_x = torch.empty_like(x) if need_x else x.new_empty(0)
    return v_x, torch.empty_like(bias) if need_bias else x.new_empty(0)


def _triton(direction: str):
    def kernel(*arguments):
        module = importlib.import_module(".kernel_triton", __package__)
        return getattr(module, f"alias_free_activation_{direction}_triton")(*arguments)

    return kernel


for _direction, _fake in (("fwd", _fake_fwd), ("bwd", _fake_bwd)):
    for _backend in ("cpu", "triton"):
        _name = f"alias_free_activation_{_direction}_{_backend}"
        _library.define(_name + _SCHEMAS[_direction])
        torch.library.register_fake(f"ssno_kernels::{_name}", _fake, lib=_library)
    _library.impl(_name, _triton(_direction), "CompositeExplicitAutograd")  # the last: triton
# alias_free_activation_*_cpu are implemented in csrc/alias_free_activation/op_cpu.cpp
