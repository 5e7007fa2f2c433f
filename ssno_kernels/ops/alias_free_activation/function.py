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

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

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
from .arguments import ACTIVATIONS, Arguments, canonical, empty_output, output_grid

if TYPE_CHECKING:
    from typing_extensions import Unpack

Maybe = Tensor | None
_Tensors = tuple[Tensor, Tensor, Tensor, Maybe]
_Options = tuple[str, int, int, tuple[int, ...], str, float, float]
"""backend, up, down, padding, activation, negative_slope, gain"""
_BackwardOptions = tuple[_Options, list[bool]]
"""those of the forward, needs"""

_INPUTS = (
    "Tensor x, Tensor up_filter, Tensor down_filter, Tensor? bias, int up, int down, "
    "int[] padding, int activation, float negative_slope, float gain"
)
_SCHEMAS = {
    "fwd": f"({_INPUTS}) -> Tensor",
    "bwd": f"(Tensor v_out, {_INPUTS}, bool[] needs) -> (Tensor, Tensor)",
}


def alias_free_activation(backend: str, arguments: Arguments) -> Tensor:
    """The output by the kernels of a backend."""
    a = canonical(arguments)
    out: Tensor = call(AliasFreeActivation, (backend, *a[4:]), *a[:4])
    return out


class _Context(Context, Protocol):
    saved_tensors: _Tensors
    options: _Options


class _BackwardContext(Context, Protocol):
    saved_tensors: tuple[Tensor, Unpack[_Tensors]]
    options: _BackwardOptions


class AliasFreeActivation(Operation):
    """out from canonical arguments."""

    @staticmethod
    def forward(
        options: _Options, x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Maybe
    ) -> Tensor:
        backend, up, down, padding, activation, slope, gain = options
        tensors = (x, up_filter, down_filter, bias)
        out: Tensor = kernel("alias_free_activation", "fwd", backend)(
            *tensors, up, down, list(padding), ACTIVATIONS.index(activation), slope, gain
        )
        return out

    @staticmethod
    def setup_context(
        ctx: _Context, inputs: tuple[_Options, Unpack[_Tensors]], output: Tensor
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, v_out: Maybe) -> tuple[Maybe, ...]:
        if v_out is None:
            return (None,) * 5
        needs = list(ctx.needs_input_grad[1:])
        v = call(AliasFreeActivationBackward, (ctx.options, needs), v_out, *ctx.saved_tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(options: _Options, *tensors: Unpack[_Tensors]) -> Tensor:
        _, up, down, padding, activation, slope, gain = options
        return composite.activate(*tensors, up, down, padding, activation, slope, gain)

    @staticmethod
    def batch_axes(options: _Options, ranks: Sequence[int]) -> tuple[Axes, Axes]:
        return _BATCH_AXES, (0,)


class AliasFreeActivationBackward(Operation):
    """The four cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(
        options: _BackwardOptions, v_out: Tensor, x: Tensor, up_filter: Tensor,
        down_filter: Tensor, bias: Maybe,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
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
                v_out, *tensors, up, down, padding, activation, slope, gain
            )
        return v_x, v_up_filter, v_down_filter, v_bias

    @staticmethod
    def setup_context(
        ctx: _BackwardContext,
        inputs: tuple[_BackwardOptions, Tensor, Unpack[_Tensors]],
        output: tuple[Tensor, Tensor, Tensor, Tensor],
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _BackwardContext, *w: Maybe) -> tuple[Maybe, ...]:
        run = partial(AliasFreeActivationBackward.composite, ctx.options)
        return None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(
        options: _BackwardOptions, v_out: Tensor, *tensors: Unpack[_Tensors]
    ) -> list[Maybe]:
        (_, up, down, padding, activation, slope, gain), needs = options

        def run(*inputs: Unpack[_Tensors]) -> Tensor:
            return composite.activate(*inputs, up, down, padding, activation, slope, gain)

        return cotangents(run, (v_out,), tensors, needs)

    @staticmethod
    def batch_axes(options: _BackwardOptions, ranks: Sequence[int]) -> tuple[Axes, Axes | None]:
        return (0, *_BATCH_AXES), of_needed(_BATCH_AXES, options[1])


_BATCH_AXES = (0, None, None, None)


def _fake_fwd(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Maybe, up: int, down: int,
    padding: Sequence[int], activation: int, slope: float, gain: float,
) -> Tensor:  # fmt: skip
    return empty_output(x, output_grid(x, up_filter, down_filter, up, down, padding))


def _fake_bwd(
    v_out: Tensor, x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Maybe, up: int,
    down: int, padding: Sequence[int], activation: int, slope: float, gain: float,
    needs: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    return like_or_empty(x, bias, needs=needs)


define("alias_free_activation", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
