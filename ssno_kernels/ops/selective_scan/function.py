# SPDX-License-Identifier: MIT
"""Autograd for the kernels of `selective_scan`: one Function, whatever the backend.

A kernel backend X is two operators of the library `ssno_kernels`,

    selective_scan_fwd_X(u, ..., initial_state, delta_softplus, reverse, want_state, interval)
        -> (out, final_state, checkpoints)
    selective_scan_bwd_X(v_out, v_final_state, checkpoints, u, ..., initial_state,
                         delta_softplus, reverse, interval, needs) -> ten cotangents

on canonical arguments (see `arguments.canonical`). checkpoints (B, ceil(L / interval) - 1, N', D),
N' = N or 2 N, holds the state before sweep steps interval, 2 interval, ...; `interval` 0 asks for
none. What was not asked for is returned as an empty tensor. Derivatives of the second and any
higher order go through the composite.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..kernels import define, kernel, like_or_empty, through_composite
from . import composite
from .arguments import Arguments, canonical

_INPUTS = (
    "Tensor u, Tensor delta, Tensor A, Tensor B, Tensor C, Tensor? D, Tensor? z, "
    "Tensor? delta_bias, Tensor? delta_weight, Tensor? initial_state, bool delta_softplus, "
    "bool reverse"
)
_SCHEMAS = {
    "fwd": f"({_INPUTS}, bool want_state, int interval) -> (Tensor, Tensor, Tensor)",
    "bwd": "(Tensor v_out, Tensor? v_final_state, Tensor checkpoints, "
    f"{_INPUTS}, int interval, bool[] needs) -> ({', '.join(['Tensor'] * 10)})",
}


def checkpoint_interval(states: int) -> int:
    """Steps between saved states: they then take at most a quarter of u (N' = N or 2 N states)."""
    interval = 64
    while 4 * states > interval:
        interval *= 2
    return interval


def selective_scan(backend: str, want_state: bool, *arguments) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by the kernels of a backend; final_state is None where not wanted."""
    a = canonical(Arguments(*arguments))
    save = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in a[:10])
    interval = checkpoint_interval(a.A[0].numel())
    options = (backend, a.delta_softplus, a.reverse, want_state, interval, save)
    out, state, _ = SelectiveScan.apply(options, *a[:10])
    if not want_state:
        return out, None
    return out, torch.view_as_complex(state) if state.dim() == 4 else state


class SelectiveScan(torch.autograd.Function):
    """out, final_state, checkpoints from canonical arguments."""

    # no starred parameters: torch.compile knows a forward without ctx by their number

    @staticmethod
    def forward(options, u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state):
        backend, delta_softplus, reverse, want_state, interval, save = options
        tensors = (u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state)
        return kernel("selective_scan", "fwd", backend)(
            *tensors, delta_softplus, reverse, want_state, interval if save else 0
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.backend, ctx.delta_softplus, ctx.reverse, _, ctx.interval, ctx.saved = inputs[0]
        ctx.save_for_backward(*inputs[1:], output[2])
        ctx.mark_non_differentiable(output[2])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, v_out, v_final_state, _):
        *tensors, checkpoints = ctx.saved_tensors
        options = (ctx.delta_softplus, ctx.reverse)
        if v_out is None and v_final_state is None:
            return (None,) * 11
        if not ctx.saved:
            _, _, checkpoints = kernel("selective_scan", "fwd", ctx.backend)(
                *(t if t is None else t.detach() for t in tensors), *options, False, ctx.interval
            )
        if v_out is None:
            v_out = torch.zeros_like(tensors[0])
        needs = list(ctx.needs_input_grad[1:])
        cotangents = SelectiveScanBackward.apply(
            (ctx.backend, *options, ctx.interval, needs),
            *(checkpoints, v_out, v_final_state, *tensors),
        )
        return None, *(v if need else None for v, need in zip(cotangents, needs, strict=True))


class SelectiveScanBackward(torch.autograd.Function):
    """The ten cotangents; itself differentiable, through the composite."""

    @staticmethod
    def forward(
        options, checkpoints, v_out, v_state, u, delta, A, B, C, D, z, bias, weight, initial_state
    ):
        backend, delta_softplus, reverse, interval, needs = options
        tensors = (u, delta, A, B, C, D, z, bias, weight, initial_state)
        return kernel("selective_scan", "bwd", backend)(
            v_out, v_state, checkpoints, *tensors, delta_softplus, reverse, interval, needs
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, ctx.delta_softplus, ctx.reverse, _, ctx.needs = inputs[0]
        ctx.save_for_backward(*inputs[2:])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx, *w):
        """The vector-Jacobian product, in the directions w, of that of the composite."""
        v, tensors = ctx.saved_tensors[:2], ctx.saved_tensors[2:]

        def run(*inputs):
            return composite.scan(*inputs, ctx.delta_softplus, ctx.reverse)

        return None, None, *through_composite(run, v, tensors, ctx.needs, w)


def _fake_fwd(
    u, delta, A, B, C, D, z, bias, weight, initial_state, softplus, reverse, want_state, interval
):
    batch, channels, length = u.shape
    state = A.new_empty(batch, *A.shape) if want_state else A.new_empty(0)
    saved = (length + interval - 1) // interval - 1 if interval else 0
    checkpoints = A.new_empty(batch, saved, A[0].numel(), channels) if interval else A.new_empty(0)
    return torch.empty_like(u), state, checkpoints


def _fake_bwd(v_out, v_final_state, checkpoints, *inputs):
    return like_or_empty(inputs[:10], inputs[13])


define("selective_scan", __package__, _SCHEMAS, {"fwd": _fake_fwd, "bwd": _fake_bwd})
