# SPDX-License-Identifier: MIT
"""The compiled extension `selective_scan_cuda_oflex` of VMamba: its fwd and bwd, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from . import raw
from .selective_scan_cuda_core import bwd

__all__ = ["bwd", "fwd"]


def fwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
    nrows: int,
    out_float: bool,
) -> list[Tensor]:
    """[out, x], as `selective_scan_cuda_core.fwd`; out is float32 at least if `out_float`."""
    out_dtype = torch.promote_types(u.dtype, torch.float32) if out_float else u.dtype
    return list(raw.forward(u, delta, A, B, C, D, delta_bias, delta_softplus, out_dtype))
