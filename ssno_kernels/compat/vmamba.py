# SPDX-License-Identifier: MIT
"""The functions of VMamba's modules `csms6s` and `csm_triton`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..ops.cross_scan import SCANS, cross_merge, cross_scan
from .not_covered import not_covered
from .scan import scan

__all__ = ["cross_merge_fn", "cross_scan_fn", "selective_scan_flop_jit", "selective_scan_fn"]

_IN_FLOAT32 = (None, "oflex", "torch")
_IN_DTYPE_OF_U = ("core", "mamba")


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    oflex: bool = True,
    backend: str | None = None,
) -> Tensor:
    """The scan of K traversals laid out one after the other, without gate or states.

    Args:
        u, delta: (B, K C, L).
        A: (K C, N). D, delta_bias: (K C,).
        B, C: (B, K, N, L).
        oflex: return float32 (float64 for float64 inputs), else u's dtype.
        backend: VMamba's name of an extension; 'core' and 'mamba' return u's dtype. All of them are
            served by one implementation, for which `ssno_kernels.use_backend` chooses.
    """
    if backend not in (*_IN_FLOAT32, *_IN_DTYPE_OF_U):
        not_covered(f"backend={backend!r}", "None, 'oflex', 'core', 'mamba' or 'torch'")
    wide = oflex and backend in _IN_FLOAT32
    out_dtype = torch.promote_types(u.dtype, torch.float32) if wide else u.dtype
    return scan(u, delta, A, B, C, D, None, delta_bias, delta_softplus, out_dtype=out_dtype)[0]


def cross_scan_fn(
    x: Tensor,
    in_channel_first: bool = True,
    out_channel_first: bool = True,
    one_by_one: bool = False,
    scans: int = 0,
    force_torch: bool = False,
) -> Tensor:
    """:func:`ssno_kernels.cross_scan`; `scans` 0, 1 or 2."""
    _check_scans(scans)
    return cross_scan(x, in_channel_first, out_channel_first, one_by_one, scans, force_torch)


def cross_merge_fn(
    y: Tensor,
    in_channel_first: bool = True,
    out_channel_first: bool = True,
    one_by_one: bool = False,
    scans: int = 0,
    force_torch: bool = False,
) -> Tensor:
    """:func:`ssno_kernels.cross_merge`; `scans` 0, 1 or 2."""
    _check_scans(scans)
    return cross_merge(y, in_channel_first, out_channel_first, one_by_one, scans, force_torch)


def _check_scans(scans: int) -> None:
    if scans not in SCANS:
        not_covered(f"scans={scans!r}", "scans 0, 1 or 2, or traversals= of ssno_kernels")


def selective_scan_flop_jit(
    inputs: Sequence[Any], outputs: Sequence[Any], backend: str = "prefixsum", verbose: bool = True
) -> int:
    """Operations of a traced scan, for `fvcore`: 9 a state and step, and one a skip."""
    batch, channels, length = map(int, inputs[0].type().sizes())
    states = int(inputs[2].type().sizes()[1])
    return batch * length * channels * (9 * states + 1)
