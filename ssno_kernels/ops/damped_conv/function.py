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
float32 may run in tf32. The backward kernel computes the states anew: nothing but the arguments is
saved. Derivatives of the second and any higher order go through the composite.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from ...registry import constant_when_traced
from ..kernels import define, kernel, like_or_empty
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
from .arguments import Arguments, canonical, final_state_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

Maybe = Tensor | None
_Tensors = tuple[Tensor, Tensor, Tensor, Maybe, Maybe]
_Options = tuple[str, int, bool, int, bool]
"""backend, direction, periodic, dim, want_state"""
_BackwardOptions = tuple[str, int, bool, int, list[bool]]
"""backend, direction, periodic, dim, needs"""

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


class _Context(Context, Protocol):
    saved_tensors: _Tensors
    backend: str
    where: tuple[int, bool, int]
    want_state: bool


class _BackwardContext(Context, Protocol):
    saved_tensors: tuple[Tensor, Maybe, Unpack[_Tensors]]
    options: _BackwardOptions


class DampedConv(Operation):
    """out, final_state from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(
        options: _Options, u: Tensor, rate: Tensor, coeff: Tensor, D: Maybe, initial_state: Maybe
    ) -> tuple[Tensor, Tensor]:
        result: tuple[Tensor, Tensor] = kernel("damped_conv", "fwd", options[0])(
            u, rate, coeff, D, initial_state, *options[1:], *_more(options[0])
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _Context, inputs: tuple[_Options, Unpack[_Tensors]], output: tuple[Tensor, Tensor]
    ) -> None:
        options = inputs[0]
        ctx.backend, ctx.where, ctx.want_state = options[0], options[1:4], options[4]
        ctx.save_for_backward(*inputs[1:])
        if not ctx.want_state:
            ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, v_out: Maybe, v_final_state: Maybe) -> tuple[Maybe, ...]:
        tensors = ctx.saved_tensors
        if not ctx.want_state:  # torch.compile gives zeros for the placeholder
            v_final_state = None
        if v_out is None and v_final_state is None:
            return (None,) * 6
        if v_out is None:
            v_out = torch.zeros_like(tensors[0])
        needs = list(ctx.needs_input_grad[1:])
        options = (ctx.backend, *ctx.where, needs)
        v = call(DampedConvBackward, options, v_out, v_final_state, *tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options: _Options, *tensors: Unpack[_Tensors]) -> tuple[Tensor, Tensor | None]:
        out, state = composite.convolve(*tensors, *options[1:-1])
        return out, state if options[-1] else None

    @staticmethod
    def batch_axes(options: _Options, ranks: Sequence[int]) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0, 1 if options[-1] else None)


class DampedConvBackward(Operation):
    """The five cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(
        options: _BackwardOptions, v_out: Tensor, v_state: Maybe, u: Tensor, rate: Tensor,
        coeff: Tensor, D: Maybe, initial_state: Maybe,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        result: tuple[Tensor, ...] = kernel("damped_conv", "bwd", options[0])(
            v_out, v_state, u, rate, coeff, D, initial_state, *options[1:], *_more(options[0])
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _BackwardContext,
        inputs: tuple[_BackwardOptions, Tensor, Maybe, Unpack[_Tensors]],
        output: tuple[Tensor, ...],
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _BackwardContext, *w: Maybe) -> tuple[Maybe, ...]:
        run = partial(DampedConvBackward.composite, ctx.options)
        return None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(
        options: _BackwardOptions, v_out: Tensor, v_state: Maybe, *tensors: Unpack[_Tensors]
    ) -> list[Maybe]:
        def run(*inputs: Unpack[_Tensors]) -> tuple[Tensor, Tensor]:
            return composite.convolve(*inputs, *options[1:-1])

        return cotangents(run, (v_out, v_state), tensors, options[-1])

    @staticmethod
    def batch_axes(options: _BackwardOptions, ranks: Sequence[int]) -> tuple[Axes, Axes | None]:
        return (0, 1, *_BATCH_AXES), of_needed(_BATCH_AXES, options[-1])


@constant_when_traced
def _allows_tf32() -> bool:
    precision: str = torch.backends.cuda.matmul.fp32_precision
    return precision == "tf32"


def _more(backend: str) -> tuple[bool, ...]:
    """What a backend's kernels are told beyond the schema."""
    return (_allows_tf32(),) if backend == "cuda" else ()


_BATCH_AXES = (0, None, None, None, 1)


def _fake_fwd(
    u: Tensor, rate: Tensor, coeff: Tensor, D: Maybe, initial_state: Maybe, direction: int,
    periodic: bool, dim: int, want_state: bool, *more: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    sweeps, _, states, _ = coeff.shape
    others = [n for i, n in enumerate(u.shape) if i != dim]
    state = coeff.new_empty(sweeps, *others, states, 2) if want_state else coeff.new_empty(0)
    return torch.empty_like(u), state


def _fake_bwd(
    v_out: Tensor,
    v_final_state: Maybe,
    *inputs: Unpack[tuple[Unpack[_Tensors], int, bool, int, list[bool], Unpack[tuple[bool, ...]]]],
) -> tuple[Tensor, ...]:
    return like_or_empty(*inputs[:5], needs=inputs[8])


define(
    "damped_conv",
    __package__,
    _SCHEMAS,
    {"fwd": _fake_fwd, "bwd": _fake_bwd},
    {"cuda": "bool tf32"},
)
