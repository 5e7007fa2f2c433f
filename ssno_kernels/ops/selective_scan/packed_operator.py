# SPDX-License-Identifier: MIT
"""Packed sequences in a graph that is traced: one operator, whose loop over pieces is not seen.

    selective_scan_packed_fwd(seq_idx, u, ..., initial_state, delta_softplus, reverse, want_state,
                              backend) -> (out, final_state)
    selective_scan_packed_bwd(v_out, v_final_state, seq_idx, u, ..., initial_state,
                              delta_softplus, reverse, backend, needs) -> ten cotangents

on canonical arguments, with the kernels of a backend on each piece (see `packed`). How many pieces
there are depends on values, the shapes of the results do not. Nothing but the arguments is saved:
the backward runs the forward of each piece once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor

from ..kernels import define_in_python, kernel, like_or_empty
from ..transforms import Context, Operation, call
from .arguments import Arguments, canonical
from .function import INPUTS, Maybe, Tensors, checkpoint_interval
from .packed import cuts_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

_Options = tuple[bool, bool, bool, str]
"""delta_softplus, reverse, want_state, backend"""
_U, _DELTA, _A, _B, _C, _Z, _STATE = 0, 1, 2, 3, 4, 6, 9


def selective_scan(
    backend: str, want_state: bool, arguments: Arguments, seq_idx: Tensor
) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by the kernels of a backend; final_state is None where not wanted."""
    a = canonical(arguments)
    options = (a.delta_softplus, a.reverse, want_state, backend)
    out, state = call(PackedScan, options, seq_idx, *a[:10])
    if not want_state:
        return out, None
    return out, torch.view_as_complex(state) if state.dim() == 4 else state


class _Context(Context, Protocol):
    saved_tensors: tuple[Tensor, Unpack[Tensors]]
    options: _Options


class PackedScan(Operation):
    """out, final_state from canonical arguments; for tracing, so of first derivatives alone."""

    @staticmethod
    def forward(
        options: _Options, seq_idx: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor,
        C: Tensor, D: Maybe, z: Maybe, bias: Maybe, weight: Maybe, initial_state: Maybe,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        result: tuple[Tensor, Tensor] = torch.ops.ssno_kernels.selective_scan_packed_fwd(
            seq_idx, u, delta, A, B, C, D, z, bias, weight, initial_state, *options
        )
        return result

    @staticmethod
    def setup_context(
        ctx: _Context,
        inputs: tuple[_Options, Tensor, Unpack[Tensors]],
        output: tuple[Tensor, Tensor],
    ) -> None:
        ctx.options = inputs[0]
        ctx.save_for_backward(*inputs[1:])
        if not inputs[0][2]:
            ctx.mark_non_differentiable(output[1])
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: _Context, v_out: Maybe, v_state: Maybe) -> tuple[Maybe, ...]:
        saved = ctx.saved_tensors
        if v_out is None and v_state is None:
            return (None,) * 12
        if v_out is None:
            v_out = torch.zeros_like(saved[1])
        softplus, reverse, _, backend = ctx.options
        needs = list(ctx.needs_input_grad[2:])
        v = torch.ops.ssno_kernels.selective_scan_packed_bwd(
            v_out, v_state, *saved, softplus, reverse, backend, needs
        )
        return None, None, *(v if need else None for v, need in zip(v, needs, strict=True))


class _Piece(NamedTuple):
    """One piece in the order of the sweep."""

    steps: slice
    fresh: Tensor | None  # which rows start with it (B or 1, 1, 1, ...); None for the first
    tensors: list[Maybe]


def _swept(tensors: Sequence[Maybe]) -> list[int]:
    """Which tensors have steps: their axis 2, or for B and C 3."""
    variable = [i for i in (_B, _C) if (M := tensors[i]) is not None and M.dim() >= 4]
    return [i for i in (_U, _DELTA, _Z) if tensors[i] is not None] + variable


def _at(x: Tensor, steps: slice, i: int) -> Tensor:
    return x[:, :, :, steps] if i in (_B, _C) else x[:, :, steps]


def _pieces(seq_idx: Tensor, tensors: Sequence[Maybe], reverse: bool) -> list[_Piece]:
    cuts, starts = cuts_of(seq_idx)
    A = tensors[_A]
    state_axes = (1,) * (2 if A is None else A.dim())
    pieces = []
    for k, (first, last) in enumerate(pairwise([0, *cuts, seq_idx.shape[1]])):
        own = list(tensors)
        for i in _swept(tensors):
            x = tensors[i]
            own[i] = None if x is None else _at(x, slice(first, last), i)
        at = k if reverse else k - 1  # the cut that the sweep comes over
        fresh = starts[:, at].view(-1, *state_axes) if 0 <= at < len(cuts) else None
        pieces.append(_Piece(slice(first, last), fresh, own))
    return pieces[::-1] if reverse else pieces


def _sweep(
    pieces: list[_Piece], softplus: bool, reverse: bool, backend: str, interval: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(out, final state, checkpoints) of each piece, whose initial states are put in place."""
    run = kernel("selective_scan", "fwd", backend)
    results: list[tuple[Tensor, Tensor, Tensor]] = []
    for piece in pieces:
        if piece.fresh is not None:
            piece.tensors[_STATE] = torch.where(piece.fresh, 0, results[-1][1])
        results.append(run(*piece.tensors, softplus, reverse, True, interval))
    return results


def _forward(
    seq_idx: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe,
    z: Maybe, bias: Maybe, weight: Maybe, initial_state: Maybe, softplus: bool, reverse: bool,
    want_state: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    tensors = [u, delta, A, B, C, D, z, bias, weight, initial_state]
    pieces = _pieces(seq_idx, tensors, reverse)
    results = _sweep(pieces, softplus, reverse, backend, 0)
    out = torch.empty_like(u)
    for piece, (part, _, _) in zip(pieces, results, strict=True):
        out[:, :, piece.steps] = part
    state = results[-1][1]
    return out, state if want_state else state.new_empty(0)


def _backward(
    v_out: Tensor, v_state: Maybe, seq_idx: Tensor, u: Tensor, delta: Tensor, A: Tensor,
    B: Tensor, C: Tensor, D: Maybe, z: Maybe, bias: Maybe, weight: Maybe, initial_state: Maybe,
    softplus: bool, reverse: bool, backend: str, needs: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    tensors = [u, delta, A, B, C, D, z, bias, weight, initial_state]
    pieces = _pieces(seq_idx, tensors, reverse)
    interval = checkpoint_interval(A[0].numel())
    results = _sweep(pieces, softplus, reverse, backend, interval)
    run = kernel("selective_scan", "bwd", backend)
    v = [
        torch.zeros_like(t) if need and t is not None else u.new_empty(0)
        for t, need in zip(tensors, needs, strict=True)
    ]
    swept = _swept(tensors)
    for piece, (_, _, checkpoints) in zip(reversed(pieces), reversed(results), strict=True):
        wanted = [*needs[:_STATE], needs[_STATE] or piece.fresh is not None]
        parts = run(
            v_out[:, :, piece.steps], v_state, checkpoints, *piece.tensors, softplus, reverse,
            interval, wanted,
        )  # fmt: skip
        for i in (i for i in range(_STATE) if needs[i] and tensors[i] is not None):
            total = _at(v[i], piece.steps, i) if i in swept else v[i]
            total += parts[i]
        if piece.fresh is not None:
            v_state = torch.where(piece.fresh, 0, parts[_STATE])
        elif needs[_STATE] and initial_state is not None:
            v[_STATE] = parts[_STATE]
    return tuple(v)


def _fake_forward(
    seq_idx: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Maybe,
    z: Maybe, bias: Maybe, weight: Maybe, initial_state: Maybe, softplus: bool, reverse: bool,
    want_state: bool, backend: str,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    state = A.new_empty(u.shape[0], *A.shape) if want_state else A.new_empty(0)
    return torch.empty_like(u), state


def _fake_backward(
    v_out: Tensor, v_state: Maybe, seq_idx: Tensor,
    *inputs: Unpack[tuple[Unpack[Tensors], bool, bool, str, list[bool]]],
) -> tuple[Tensor, ...]:  # fmt: skip
    return like_or_empty(*inputs[:10], needs=inputs[13])


_RESULTS = ", ".join(["Tensor"] * 10)
define_in_python(
    "selective_scan_packed_fwd",
    f"(Tensor seq_idx, {INPUTS}, bool want_state, str backend) -> (Tensor, Tensor)",
    _forward,
    _fake_forward,
)
define_in_python(
    "selective_scan_packed_bwd",
    f"(Tensor v_out, Tensor? v_final_state, Tensor seq_idx, {INPUTS}, str backend, bool[] needs) "
    f"-> ({_RESULTS})",
    _backward,
    _fake_backward,
)
