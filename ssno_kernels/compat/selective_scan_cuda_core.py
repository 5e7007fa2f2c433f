# SPDX-License-Identifier: MIT
"""The compiled extension `selective_scan_cuda_core` of VMamba: its fwd and bwd, on any device."""

from __future__ import annotations

from torch import Tensor

from . import raw

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
) -> list[Tensor]:
    """[out in u's dtype, x], as `selective_scan_cuda.fwd` without z; nrows has no effect."""
    return list(raw.forward(u, delta, A, B, C, D, delta_bias, delta_softplus))


def bwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    dout: Tensor,
    x: Tensor | None,
    delta_softplus: bool,
    nrows: int,
) -> list[Tensor | None]:
    """[du, ddelta, dA, dB, dC, dD, ddelta_bias]; x is not read and nrows has no effect.

    dout may be of a wider dtype than u, as `selective_scan_cuda_oflex` has it.
    """
    inputs = (u, delta, A, B, C, D, None, delta_bias)
    _, (*first, _, v_bias) = raw.backward(inputs, dout, delta_softplus, dout.dtype)
    return [*first, v_bias]
