# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `damped_conv`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    damped_conv_fwd_X(u, rate, coeff, D, initial_state, direction, periodic, dim, want_state)
        -> (out, final_state)
    damped_conv_bwd_X(v_out, v_final_state, u, rate, coeff, D, initial_state,
                      direction, periodic, dim, needs)
        -> (v_u, v_rate, v_coeff, v_D, v_initial_state)

on canonical arguments (see `arguments.Canonical`); final_state is as initial_state. What was not
asked for is returned as an empty tensor. The backward kernel computes the states anew: nothing but
the arguments is saved. Derivatives of the second and any higher order go through the composite.
"""

from __future__ import annotations

import importlib

import torch
from torch import Tensor

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
_library = torch.library.Library("ssno_kernels", "FRAGMENT")


def damped_conv(
    backend: str, want_state: bool, arguments: Arguments
) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by the kernels of a backend; final_state is None where not wanted."""
    a = canonical(arguments)
    options = (backend, a.direction, a.periodic, a.dim, want_state)
    out, state = DampedConv.apply(options, *a[:5])
    return out, final_state_of(state) if want_state else None


class DampedConv(torch.autograd.Function):
    """out, final_state from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(options, u, rate, coeff, D, initial_state):
        backend, *options = options
        return _operator("fwd", backend)(u, rate, coeff, D, initial_state, *options)

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
        cotangents = DampedConvBackward.apply(options, v_out, v_final_state, *tensors)
        return None, *(v if need else None for v, need in zip(cotangents, needs, strict=True))


class DampedConvBackward(torch.autograd.Function):
    """The five cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(options, v_out, v_state, u, rate, coeff, D, initial_state):
        backend, *options = options
        return _operator("bwd", backend)(v_out, v_state, u, rate, coeff, D, initial_state, *options)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, *ctx.options, ctx.needs = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        """The vector-Jacobian product, in the directions w, of that of the composite."""
        given = ctx.saved_tensors  # v_out, v_final_state, u, ..., initial_state
        present = [i for i, t in enumerate(given) if t is not None]

        def cotangents(*values):
            full = [None] * len(given)
            for i, value in zip(present, values, strict=True):
                full[i] = value
            v_out, v_state, *tensors = full

            def primal(*wanted):
                chosen = iter(wanted)
                inputs = [
                    next(chosen) if need else t for t, need in zip(tensors, ctx.needs, strict=True)
                ]
                return composite.convolve(*inputs, *ctx.options)

            wanted = [t for t, need in zip(tensors, ctx.needs, strict=True) if need]
            (_, state), pull = torch.func.vjp(primal, *wanted)
            return pull((v_out, torch.zeros_like(state) if v_state is None else v_state))

        v, pull = torch.func.vjp(cotangents, *(given[i] for i in present))
        w = [x for x, need in zip(w, ctx.needs, strict=True) if need]
        w = tuple(torch.zeros_like(x) if y is None else y for x, y in zip(v, w, strict=True))
        second = [None] * len(given)
        for i, value in zip(present, pull(w), strict=True):
            second[i] = value
        return None, *second


def _operator(direction: str, backend: str):
    return getattr(torch.ops.ssno_kernels, f"damped_conv_{direction}_{backend}").default


def _fake_fwd(u, rate, coeff, D, initial_state, direction, periodic, dim, want_state):
    sweeps, _, states, _ = coeff.shape
    others = [n for i, n in enumerate(u.shape) if i != dim]
    state = coeff.new_empty(sweeps, *others, states, 2) if want_state else coeff.new_empty(0)
    return torch.empty_like(u), state


def _fake_bwd(v_out, v_final_state, *inputs):
    tensors, needs = inputs[:5], inputs[8]
    return tuple(
        torch.empty_like(t) if need and t is not None else tensors[0].new_empty(0)
        for t, need in zip(tensors, needs, strict=True)
    )


def _triton(direction: str):
    def kernel(*arguments):
        module = importlib.import_module(".kernel_triton", __package__)
        return getattr(module, f"damped_conv_{direction}_triton")(*arguments)

    return kernel


for _direction, _fake in (("fwd", _fake_fwd), ("bwd", _fake_bwd)):
    for _backend in ("cpu", "triton"):
        _name = f"damped_conv_{_direction}_{_backend}"
        _library.define(_name + _SCHEMAS[_direction])
        torch.library.register_fake(f"ssno_kernels::{_name}", _fake, lib=_library)
    _library.impl(
        f"damped_conv_{_direction}_triton", _triton(_direction), "CompositeExplicitAutograd"
    )
# damped_conv_*_cpu are implemented in csrc/damped_conv/op_cpu.cpp
