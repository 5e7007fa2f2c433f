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

import importlib

import torch
from torch import Tensor

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
_library = torch.library.Library("ssno_kernels", "FRAGMENT")


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
        return _operator("fwd", backend)(
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
            _, _, checkpoints = _operator("fwd", ctx.backend)(
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
        return _operator("bwd", backend)(
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
                return composite.scan(*inputs, ctx.delta_softplus, ctx.reverse)

            wanted = [t for t, need in zip(tensors, ctx.needs, strict=True) if need]
            (_, state), pull = torch.func.vjp(primal, *wanted)
            return pull((v_out, torch.zeros_like(state) if v_state is None else v_state))

        v, pull = torch.func.vjp(cotangents, *(given[i] for i in present))
        w = [x for x, need in zip(w, ctx.needs, strict=True) if need]
        w = tuple(torch.zeros_like(x) if y is None else y for x, y in zip(v, w, strict=True))
        second = [None] * len(given)
        for i, value in zip(present, pull(w), strict=True):
            second[i] = value
        return None, None, *second


def _operator(direction: str, backend: str):
    return getattr(torch.ops.ssno_kernels, f"selective_scan_{direction}_{backend}").default


def _like_or_empty(wanted: bool, t: Tensor | None, u: Tensor) -> Tensor:
    return torch.empty_like(t) if wanted and t is not None else u.new_empty(0)


def _fake_fwd(
    u, delta, A, B, C, D, z, bias, weight, initial_state, softplus, reverse, want_state, interval
):
    batch, channels, length = u.shape
    state = A.new_empty(batch, *A.shape) if want_state else A.new_empty(0)
    saved = (length + interval - 1) // interval - 1 if interval else 0
    checkpoints = A.new_empty(batch, saved, A[0].numel(), channels) if interval else A.new_empty(0)
    return torch.empty_like(u), state, checkpoints


def _fake_bwd(v_out, v_final_state, checkpoints, *inputs):
    tensors, needs = inputs[:10], inputs[13]
    return tuple(_like_or_empty(n, t, tensors[0]) for n, t in zip(needs, tensors, strict=True))


def _triton(direction: str):
    def kernel(*arguments):
        module = importlib.import_module(".kernel_triton", __package__)
        return getattr(module, f"selective_scan_{direction}_triton")(*arguments)

    return kernel


for _direction, _fake in (("fwd", _fake_fwd), ("bwd", _fake_bwd)):
    for _backend in ("cpu", "triton"):
        _name = f"selective_scan_{_direction}_{_backend}"
        _library.define(_name + _SCHEMAS[_direction])
        torch.library.register_fake(f"ssno_kernels::{_name}", _fake, lib=_library)
    _library.impl(
        f"selective_scan_{_direction}_triton", _triton(_direction), "CompositeExplicitAutograd"
    )
# selective_scan_*_cpu are implemented in csrc/selective_scan/op_cpu.cpp
