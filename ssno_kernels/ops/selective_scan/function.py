# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `selective_scan`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    selective_scan_fwd_X(u, ..., initial_state, delta_softplus, reverse, want_state, interval)
        -> (out, final_state, checkpoints)
    selective_scan_bwd_X(v_out, v_final_state, checkpoints, u, ..., initial_state,
                         delta_softplus, reverse, interval, needs) -> ten cotangents

on canonical arguments (see `arguments.canonical`). checkpoints (B, rows, D) holds the state before
sweep steps interval, 2 interval, ..., N or 2 N rows each; `interval` 0 asks for none. What was not
asked for is returned as an empty tensor. Derivatives of the second and any higher order go through
the composite.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

import torch
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
from .arguments import Arguments, canonical

if TYPE_CHECKING:
    from typing_extensions import Unpack

Maybe = Tensor | None
Tensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Maybe, Maybe, Maybe, Maybe, Maybe]
_Options = tuple[str, bool, bool, bool, int, bool]
"""backend, delta_softplus, reverse, want_state, interval, whether to save checkpoints"""
_BackwardOptions = tuple[str, bool, bool, int, list[bool]]
"""backend, delta_softplus, reverse, interval, needs"""

INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? delta_weight, Tensor? initial_state, bool delta_softplus, "
    "bool reverse"
)
_SCHEMAS = {
    "fwd": f"({INPUTS}, bool want_state, int interval) -> (Tensor, Tensor, Tensor)",
    "bwd": "(Tensor v_out, Tensor? v_final_state, Tensor checkpoints, "
    f"{INPUTS}, int interval, bool[] needs) -> ({', '.join(['Tensor'] * 10)})",
}


def checkpoint_interval(states: int) -> int:
    """Steps between saved states: they then take at most a quarter of u (N' = N or 2 N states)."""
    interval = 64
    while 4 * states > interval:
        interval *= 2
    return interval


def checkpoint_rows(length: int, interval: int, states: int, sweeps: int = 1) -> int:
    """Rows of the states saved by so many sweeps, and two of zeros that nobody uses.

    A graph traced for any length is compiled anew for one where a size is 0 or 1.
    """
    return ((length + interval - 1) // interval - 1) * states * sweeps + 2


def selective_scan(
    backend: str, want_state: bool, arguments: Arguments
) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by the kernels of a backend; final_state is None where not wanted."""
    a = canonical(arguments)
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in a[:10])
    interval = checkpoint_interval(a.A[0].numel())
    options = (backend, a.delta_softplus, a.reverse, want_state, interval, save)
    out, state, _ = call(SelectiveScan, options, *a[:10])
    if not want_state:
        return out, None
    return out, torch.view_as_complex(state) if state.dim() == 4 else state


class _Context(Context, Protocol):
    saved_tensors: tuple[Unpack[Tensors], Tensor]
    backend: str
    options: list[bool]
    want_state: bool
    interval: int
    saved: bool


class _BackwardContext(Context, Protocol):
    saved_tensors: tuple[Tensor, Maybe, Unpack[Tensors]]
    options: _BackwardOptions


class SelectiveScan(Operation):
    """out, final_state, checkpoints from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(
        options: _Options, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe,
        z: Maybe, delta_bias: Maybe, delta_weight: Maybe, initial_state: Maybe,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        backend, delta_softplus, reverse, want_state, interval, save = options
        tensors = (u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state)
        result: tuple[Tensor, Tensor, Tensor] = kernel("selective_scan", "fwd", backend)(
            *tensors, delta_softplus, reverse, want_state, interval if save else 0
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _Context,
        inputs: tuple[_Options, Unpack[Tensors]],
        output: tuple[Tensor, Tensor, Tensor],
    ) -> None:
        ctx.backend, *ctx.options, ctx.want_state, ctx.interval, ctx.saved = inputs[0]
        ctx.save_for_backward(*inputs[1:], output[2])
        ctx.mark_non_differentiable(*(output[2:] if ctx.want_state else output[1:]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, v_out: Maybe, v_final_state: Maybe, _: None) -> tuple[Maybe, ...]:
        saved = ctx.saved_tensors
        tensors, checkpoints = saved[:10], saved[10]
        if not ctx.want_state:  # torch.compile gives zeros for the placeholder
            v_final_state = None
        if v_out is None and v_final_state is None:
            return (None,) * 11
        if not ctx.saved:
            again = (ctx.backend, *ctx.options, False, ctx.interval, True)
            detached = (t if t is None else t.detach() for t in tensors)
            _, _, checkpoints = call(SelectiveScan, again, *detached)
        if v_out is None:
            v_out = torch.zeros_like(tensors[0])
        needs = list(ctx.needs_input_grad[1:])
        options = (ctx.backend, *ctx.options, ctx.interval, needs)
        v = call(SelectiveScanBackward, options, checkpoints, v_out, v_final_state, *tensors)
        return None, *(v if need else None for v, need in zip(v, needs, strict=True))

    @staticmethod
    def composite(
        options: _Options, *tensors: Unpack[Tensors]
    ) -> tuple[Tensor, Tensor | None, None]:
        _, delta_softplus, reverse, want_state, *_ = options
        out, state = composite.scan(*tensors, delta_softplus, reverse)
        return out, state if want_state else None, None

    @staticmethod
    def batch_axes(options: _Options, ranks: Sequence[int]) -> tuple[Axes, Axes]:
        *_, want_state, _, save = options
        return _batch_axes(ranks), (0, 0 if want_state else None, 0 if save else None)


class SelectiveScanBackward(Operation):
    """The ten cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(
        options: _BackwardOptions, checkpoints: Tensor, v_out: Tensor, v_state: Maybe, u: Tensor,
        delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe, z: Maybe, bias: Maybe,
        weight: Maybe, initial_state: Maybe,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        backend, delta_softplus, reverse, interval, needs = options
        tensors = (u, delta, A, B, C, D, z, bias, weight, initial_state)
        result: tuple[Tensor, ...] = kernel("selective_scan", "bwd", backend)(
            v_out, v_state, checkpoints, *tensors, delta_softplus, reverse, interval, needs
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _BackwardContext,
        inputs: tuple[_BackwardOptions, Tensor, Tensor, Maybe, Unpack[Tensors]],
        output: tuple[Tensor, ...],
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.mark_non_differentiable(*not_needed(output, inputs[0][-1]))
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _BackwardContext, *w: Maybe) -> tuple[Maybe, ...]:
        run = partial(SelectiveScanBackward.composite, ctx.options, None)
        return None, None, *pullback(run, ctx.saved_tensors, w)

    @staticmethod
    def composite(
        options: _BackwardOptions,
        checkpoints: Maybe,
        v_out: Tensor,
        v_state: Maybe,
        *tensors: Unpack[Tensors],
    ) -> list[Maybe]:
        _, delta_softplus, reverse, _, needs = options

        def run(*inputs: Unpack[Tensors]) -> tuple[Tensor, Tensor]:
            return composite.scan(*inputs, delta_softplus, reverse)

        return cotangents(run, (v_out, v_state), tensors, needs)

    @staticmethod
    def batch_axes(options: _BackwardOptions, ranks: Sequence[int]) -> tuple[Axes, Axes | None]:
        axes = _batch_axes(ranks[3:])
        return (0, 0, 0, *axes), of_needed(axes, options[-1])


def _batch_axes(ranks: Sequence[int]) -> Axes:
    """Of the ten tensors: parameters have none, and B and C may be parameters."""
    B, C = (0 if rank >= 4 else None for rank in ranks[3:5])
    return 0, 0, None, B, C, None, 0, None, None, 0


def _fake_fwd(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe, z: Maybe, bias: Maybe,
    weight: Maybe, initial_state: Maybe, softplus: bool, reverse: bool, want_state: bool,
    interval: int,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    batch, channels, length = u.shape
    state = A.new_empty(batch, *A.shape) if want_state else A.new_empty(0)
    rows = checkpoint_rows(length, interval, A[0].numel()) if interval else 0
    checkpoints = A.new_empty(batch, rows, channels) if interval else A.new_empty(0)
    return torch.empty_like(u), state, checkpoints


def _fake_bwd(
    v_out: Tensor, v_final_state: Maybe, checkpoints: Tensor,
    *inputs: Unpack[tuple[Unpack[Tensors], bool, bool, int, list[bool]]],
) -> tuple[Tensor, ...]:  # fmt: skip
    return like_or_empty(*inputs[:10], needs=inputs[13])


define("selective_scan", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
