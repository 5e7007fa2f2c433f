# SPDX-License-Identifier: MIT
"""Packed sequences: `selective_scan` over several sequences that lie one after the other.

The sequence axis is cut where any row of the batch starts a sequence, the pieces are scanned in
place one after the other, and at a cut the rows that start there get a state of zeros. So nothing
passes from a sequence to its neighbour, forward or backward, not even a NaN, and no padding is
computed or stored. There is one scan for each piece. The composite needs no cuts: it forgets the
state where a sequence starts.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..memory import inverse, memory_order
from .arguments import Arguments

_INTEGERS = (torch.int32, torch.int64)


def seq_idx_from_cu_seqlens(cu_seqlens: Tensor, length: int | None = None) -> Tensor:
    """seq_idx (1, L) of sequences packed along one row, for `selective_scan`.

    Args:
        cu_seqlens: (sequences + 1,) int32 or int64: sequence i takes the steps cu_seqlens[i] to
            cu_seqlens[i + 1] - 1. It starts with 0 and does not fall; a sequence may be empty.
        length: L where it is known, which spares a look at the values; else cu_seqlens[-1].

    Returns:
        (1, L) int32, the number of the sequence of each step.
    """
    if not isinstance(cu_seqlens, Tensor):
        raise TypeError(f"cu_seqlens is of type {type(cu_seqlens).__name__}; expected a Tensor")
    if cu_seqlens.dim() != 1 or len(cu_seqlens) < 2 or cu_seqlens.dtype not in _INTEGERS:
        raise ValueError(
            f"cu_seqlens has shape {tuple(cu_seqlens.shape)} and dtype {cu_seqlens.dtype}; "
            "expected (sequences + 1,) of int32 or int64"
        )
    if cu_seqlens.device.type == "cpu" and (cu_seqlens[0] != 0 or (cu_seqlens.diff() < 0).any()):
        raise ValueError("cu_seqlens is expected to start with 0 and not to fall")
    steps = torch.arange(
        int(cu_seqlens[-1]) if length is None else length, device=cu_seqlens.device
    )
    return torch.searchsorted(cu_seqlens[1:].contiguous(), steps, right=True, out_int32=True)[None]


def check_seq_idx(seq_idx: Tensor, u: Tensor) -> None:
    """Raise where seq_idx does not fit u (B, D, L)."""
    if not isinstance(seq_idx, Tensor):
        raise TypeError(f"seq_idx is of type {type(seq_idx).__name__}; expected a Tensor or None")
    batch, _, length = u.shape
    if seq_idx.dim() != 2 or seq_idx.shape[0] not in (1, batch) or seq_idx.shape[1] != length:
        raise ValueError(
            f"seq_idx has shape {tuple(seq_idx.shape)}; expected (B or 1, L) = ({batch}, {length})"
        )
    if seq_idx.dtype not in _INTEGERS:
        raise ValueError(f"seq_idx has dtype {seq_idx.dtype}; expected torch.int32 or torch.int64")
    if seq_idx.device != u.device:
        raise ValueError(f"seq_idx is on {seq_idx.device}; expected {u.device}, where u is")


def starts_of(seq_idx: Tensor, reverse: bool) -> Tensor:
    """Whether a sequence other than the first starts at each step of the sweep (B or 1, L)."""
    swept = seq_idx.flip(1) if reverse else seq_idx
    return pad(swept[:, 1:] != swept[:, :-1], (1, 0))


def cuts_of(seq_idx: Tensor) -> tuple[list[int], Tensor]:
    """The steps where any row starts a sequence, and which rows do (B or 1, cuts).

    So in either direction: what starts there in one sweep ends there in the other.
    """
    starts = seq_idx[:, 1:] != seq_idx[:, :-1]
    cuts: list[int] = (starts.any(0).nonzero()[:, 0] + 1).tolist()
    return cuts, starts[:, [cut - 1 for cut in cuts]]


def selective_scan(
    run: Callable[[bool, Arguments], tuple[Tensor, Tensor | None]],
    want_state: bool,
    a: Arguments,
    seq_idx: Tensor,
) -> tuple[Tensor, Tensor | None]:
    """(out, final_state) by `run`, which scans one piece from checked arguments."""
    cuts, starts = cuts_of(seq_idx)
    carries = not starts.all()  # somewhere a row goes on where another one starts
    edges = [0, *cuts, a.u.shape[-1]]
    pieces = _pieces(a, [last - first for first, last in pairwise(edges)])
    order = range(len(pieces))
    outs, state = [a.u] * len(pieces), a.initial_state
    for k in reversed(order) if a.reverse else order:
        last = k == (0 if a.reverse else len(cuts))
        want = want_state if last else carries
        outs[k], state = run(want, pieces[k]._replace(initial_state=state))
        if not last:
            fresh = starts[:, k - 1 if a.reverse else k, None, None]
            state = None if state is None or not want else torch.where(fresh, 0, state)
    return _joined(outs, a.u), state


def _pieces(a: Arguments, sizes: list[int]) -> list[Arguments]:
    """The arguments of each piece, all of them views."""

    def cut(x: Tensor, entries: int = 1) -> list[Tensor]:
        return list(x.split([entries * n for n in sizes], dim=-1))

    entries = 2 if a.A.is_complex() else 1
    B, C = ([M] * len(sizes) if M.dim() == 2 else cut(M, entries) for M in (a.B, a.C))
    zs = [None] * len(sizes) if a.z is None else cut(a.z)
    return [
        a._replace(u=u, delta=delta, z=z, B=B_k, C=C_k)
        for u, delta, z, B_k, C_k in zip(cut(a.u), cut(a.delta), zs, B, C, strict=True)
    ]


def _joined(outs: list[Tensor], u: Tensor) -> Tensor:
    """The pieces in one tensor, with u's order of axes in memory."""
    order = memory_order(u.stride())
    whole = torch.cat([out.permute(order) for out in outs], dim=order.index(2))
    return whole.permute(inverse(order))
