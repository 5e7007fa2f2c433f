# SPDX-License-Identifier: MIT
"""The specification of `alias_free_activation`: explicit loops over taps. Speed is not its aim."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad


def alias_free_activation(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int, down: int,
    padding: Sequence[int], activation: str, negative_slope: float, gain: float,
) -> Tensor:  # fmt: skip
    """(A1) to (A5) of the public docstring, axis by axis."""
    real = torch.float64 if x.dtype == torch.float64 else torch.float32
    s = x.to(real)
    if bias is not None:
        s = s + bias.to(real).view(-1, *[1] * (x.dim() - 2))
    for axis in range(2, x.dim()):
        s = s.movedim(axis, -1)
        e = torch.stack([s] + [torch.zeros_like(s)] * (up - 1), dim=-1).flatten(-2)  # (A1)
        low, high = padding[2 * axis - 4 : 2 * axis - 2]
        p = pad(e, (max(low, 0), max(high, 0)))  # (A2); what is negative is cropped
        p = p[..., max(-low, 0) : p.shape[-1] - max(-high, 0)]
        s = up * convolve(p, up_filter.to(real), 1)  # (A3)
        s = s.movedim(-1, axis)
    t = gain * act(s, activation, negative_slope)  # (A4)
    for axis in range(2, x.dim()):
        t = convolve(t.movedim(axis, -1), down_filter.to(real), down).movedim(-1, axis)  # (A5)
    return t.to(x.dtype).contiguous()


def convolve(p: Tensor, f: Tensor, step: int) -> Tensor:
    """sum_k f[k] p[i step + K - 1 - k] along the last axis, for every i whose samples are there."""
    K = f.shape[0]
    count = (p.shape[-1] - K) // step + 1
    total = torch.zeros_like(p[..., :1])
    for k in range(K):
        first = K - 1 - k
        total = total + f[k] * p[..., first : first + (count - 1) * step + 1 : step]
    return total


def act(s: Tensor, activation: str, negative_slope: float) -> Tensor:
    if activation == "leaky_relu":
        return torch.where(s > 0, s, negative_slope * s)
    if activation == "silu":
        return s * torch.sigmoid(s)
    if activation == "gelu":
        return s * (1 + torch.erf(s / math.sqrt(2))) / 2
    return torch.tanh(s)
