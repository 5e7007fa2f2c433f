# SPDX-License-Identifier: MIT
"""`alias_free_activation` in PyTorch operations: any device, any order of derivative, any mode."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv1d, gelu, leaky_relu, pad, silu

from .arguments import Arguments, canonical, memory_order, sum_dtype


def alias_free_activation(*arguments) -> Tensor:
    """The output of the public docstring from its checked arguments."""
    return activate(*canonical(Arguments(*arguments)))


def activate(
    x, up_filter, down_filter, bias, up, down, padding, activation, negative_slope, gain
) -> Tensor:
    """The same from canonical arguments (see `arguments.canonical`)."""
    s = x.to(sum_dtype(x.dtype))
    if bias is not None:
        s = s + bias.view(-1, *[1] * (x.dim() - 2))
    for axis in range(2, x.dim()):
        s = s.movedim(axis, -1)
        gaps = s.new_zeros(*s.shape, up - 1)
        s = torch.cat([s[..., None], gaps], dim=-1).flatten(-2)  # (A1)
        low, high = padding[2 * axis - 4 : 2 * axis - 2]
        s = pad(s, (max(low, 0), max(high, 0)))  # (A2)
        s = s[..., max(-low, 0) : s.shape[-1] - max(-high, 0)]
        s = _convolve(s, up * up_filter, 1).movedim(-1, axis)  # (A3)
    t = gain * _act(s, activation, negative_slope)  # (A4)
    for axis in range(2, x.dim()):
        t = _convolve(t.movedim(axis, -1), down_filter, down).movedim(-1, axis)  # (A5)
    order = memory_order(x) or range(x.dim())
    return t.to(x.dtype).permute(*order).contiguous().permute(*_inverse(order))


def _convolve(p: Tensor, f: Tensor, step: int) -> Tensor:
    rows = p.reshape(-1, 1, p.shape[-1])
    filtered = conv1d(rows, f.flip(0)[None, None], stride=step)  # which correlates
    return filtered.view(*p.shape[:-1], filtered.shape[-1])


def _act(s: Tensor, activation: str, negative_slope: float) -> Tensor:
    if activation == "leaky_relu":
        return leaky_relu(s, negative_slope)
    return {"silu": silu, "gelu": gelu, "tanh": torch.tanh}[activation](s)


def _inverse(order) -> list[int]:
    inverse = [0] * len(order)
    for position, axis in enumerate(order):
        inverse[axis] = position
    return inverse
