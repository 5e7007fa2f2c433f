# SPDX-License-Identifier: MIT
"""`alias_free_activation` in PyTorch operations: any device, any order of derivative, any mode."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.functional import conv2d, gelu, leaky_relu, silu

from ..memory import in_order
from .arguments import Arguments, canonical, output_order, sum_dtype


def alias_free_activation(arguments: Arguments) -> Tensor:
    """The output of the public docstring from its checked arguments."""
    return activate(*canonical(arguments))


def activate(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int, down: int,
    padding: Sequence[int], activation: str, negative_slope: float, gain: float,
) -> Tensor:  # fmt: skip
    """The same from canonical arguments (see `arguments.canonical`)."""
    s = _biased(x, bias)
    for axis in range(2, x.dim()):
        p = _insert(s.movedim(axis, -1), up, *padding[2 * axis - 4 : 2 * axis - 2])
        s = _convolve(p, up * up_filter, 1).movedim(-1, axis)  # (A3)
    t = gain * _act(s, activation, negative_slope)  # (A4)
    for axis in range(2, x.dim()):
        t = _convolve(t.movedim(axis, -1), down_filter, down).movedim(-1, axis)  # (A5)
    return in_order(t.to(x.dtype), output_order(x))


def filter_cotangents(
    v_out: Tensor,
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int, down: int,
    padding: Sequence[int], activation: str, negative_slope: float, gain: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(v_up_filter, v_down_filter), the adjoint written out.

    It runs inside of a backward, where a compiler cannot trace a call of autograd.
    """
    axes = range(2, x.dim())
    padded: list[Tensor] = []
    filtered: list[Tensor] = []  # what each convolution took
    s = _biased(x, bias)
    for axis in axes:
        padded.append(_insert(s.movedim(axis, -1), up, *padding[2 * axis - 4 : 2 * axis - 2]))
        s = _convolve(padded[-1], up * up_filter, 1).movedim(-1, axis)
    t = gain * _act(s, activation, negative_slope)
    for axis in axes:
        filtered.append(t.movedim(axis, -1))
        t = _convolve(filtered[-1], down_filter, down).movedim(-1, axis)
    v = v_out.to(t.dtype)
    v_up_filter, v_down_filter = torch.zeros_like(up_filter), torch.zeros_like(down_filter)
    for axis in reversed(axes):
        v, v_taps = _convolve_adjoint(v.movedim(axis, -1), filtered[axis - 2], down_filter, down)
        v, v_down_filter = v.movedim(-1, axis), v_down_filter + v_taps
    v = gain * v * _slope(s, activation, negative_slope)  # (A6)
    for axis in reversed(axes):
        v, v_taps = _convolve_adjoint(v.movedim(axis, -1), padded[axis - 2], up * up_filter, 1)
        low, high = padding[2 * axis - 4 : 2 * axis - 2]
        v, v_up_filter = _pad(v, -low, -high)[..., ::up].movedim(-1, axis), v_up_filter + v_taps
    return up * v_up_filter, v_down_filter


def _biased(x: Tensor, bias: Tensor | None) -> Tensor:
    x = x.to(sum_dtype(x.dtype))
    return x if bias is None else x + bias.view(-1, *[1] * (x.dim() - 2))


def _insert(s: Tensor, up: int, low: int, high: int) -> Tensor:
    """(A1) and (A2) along the last axis."""
    gaps = s.new_zeros(*s.shape, up - 1)
    return _pad(torch.cat([s[..., None], gaps], dim=-1).flatten(-2), low, high)


def _pad(e: Tensor, low: int, high: int) -> Tensor:
    """Zeros, then the crop of what is negative, which may be longer than e."""
    p = functional.pad(e, (max(low, 0), max(high, 0)))
    return p[..., max(-low, 0) : p.shape[-1] - max(-high, 0)]


def _convolve(p: Tensor, f: Tensor, step: int) -> Tensor:
    filtered = conv2d(_rows(p), _taps(f, p), stride=(1, step), groups=p.shape[1])
    return filtered.reshape(*p.shape[:-1], filtered.shape[-1])


def _rows(p: Tensor) -> Tensor:
    """p (B, C, *, L) as (B, C, rows, L)"""
    return p.reshape(*p.shape[:2], math.prod(p.shape[2:-1]), p.shape[-1])


def _taps(f: Tensor, p: Tensor) -> Tensor:
    """The weight of a convolution of each channel, which correlates: (C, 1, 1, K)"""
    return f.flip(0).expand(p.shape[1], 1, 1, -1)


def _convolve_adjoint(v: Tensor, p: Tensor, f: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """The cotangents of p and f."""
    v_rows, v_taps, _ = torch.ops.aten.convolution_backward(
        *(_rows(v), _rows(p), _taps(f, p), None, [1, step], [0, 0], [1, 1]),
        *(False, [0, 0], p.shape[1], [True, True, False]),
    )
    return v_rows.reshape(p.shape), v_taps.sum((0, 1, 2)).flip(0)


def _act(s: Tensor, activation: str, negative_slope: float) -> Tensor:
    if activation == "leaky_relu":
        return leaky_relu(s, negative_slope)
    act: dict[str, Callable[[Tensor], Tensor]] = {"silu": silu, "gelu": gelu, "tanh": torch.tanh}
    return act[activation](s)


def _slope(s: Tensor, activation: str, negative_slope: float) -> Tensor:
    """act'(s)"""
    if activation == "leaky_relu":
        return torch.where(s > 0, s.new_ones(()), negative_slope)
    if activation == "silu":
        r = torch.sigmoid(s)
        return r * (1 + s * (1 - r))
    if activation == "gelu":
        density = torch.exp(-0.5 * s * s) * (2 * torch.pi) ** -0.5
        slope: Tensor = torch.special.ndtr(s) + s * density
        return slope
    return 1 - torch.tanh(s) ** 2
