# SPDX-License-Identifier: MIT
"""The checks of `alias_free_activation`'s arguments, and the form in which kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..memory import memory_order

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
ACTIVATIONS = ("leaky_relu", "silu", "gelu", "tanh")


Padding = Sequence[int] | Sequence[Sequence[int]]


class Arguments(NamedTuple):
    """The checked arguments; padding is one (low, high) per axis, one after the other."""

    x: Tensor
    up_filter: Tensor
    down_filter: Tensor
    bias: Tensor | None
    up: int
    down: int
    padding: tuple[int, ...]
    activation: str
    negative_slope: float
    gain: float


def sum_dtype(activation: torch.dtype) -> torch.dtype:
    """The dtype of sums over activations of a dtype."""
    return torch.float64 if activation == torch.float64 else torch.float32


def output_size(
    n: int, up_taps: int, down_taps: int, up: int, down: int, low: int, high: int
) -> int:
    """Samples that an axis of n samples gives; below 1 where padding is too small."""
    return (n * up + low + high - up_taps - down_taps + 1) // down + 1


def output_grid(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, up: int, down: int, padding: Sequence[int]
) -> list[int]:
    taps = up_filter.shape[0], down_filter.shape[0]
    pairs = zip(padding[::2], padding[1::2], strict=True)
    return [
        output_size(n, *taps, up, down, low, high)
        for n, (low, high) in zip(x.shape[2:], pairs, strict=True)
    ]


def check(
    x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None, up: int, down: int,
    padding: Padding, activation: str, negative_slope: float, gain: float,
) -> Arguments:  # fmt: skip
    """Raise for arguments that do not fit; say which, what came and what would serve."""
    given = {"x": x, "up_filter": up_filter, "down_filter": down_filter, "bias": bias}
    for name, value in given.items():
        if not isinstance(value, Tensor) and (name != "bias" or value is not None):
            wanted = "a Tensor or None" if name == "bias" else "a Tensor"
            raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")
    _check_shapes(x, up_filter, down_filter, bias)
    for name, factor in (("up", up), ("down", down)):
        if not isinstance(factor, int) or isinstance(factor, bool):
            raise TypeError(f"{name} is {factor!r}; expected an integer")
        if factor < 1:
            raise ValueError(f"{name} is {factor}; expected at least 1")
    if not isinstance(activation, str):
        raise TypeError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    if activation not in ACTIVATIONS:
        raise ValueError(f"activation is {activation!r}; expected one of {', '.join(ACTIVATIONS)}")
    for name, number in (("negative_slope", negative_slope), ("gain", gain)):
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            raise TypeError(f"{name} is {number!r}; expected a number")
    flat = _flat_padding(padding, x.dim() - 2)
    _check_dtypes(x, given)
    for name, value in given.items():
        if value is not None and value.device != x.device:
            raise ValueError(f"{name} is on {value.device}; expected {x.device}, where x is")
    grid = output_grid(x, up_filter, down_filter, up, down, flat)
    for axis, size in enumerate(grid):
        if size < 1:
            taps, n = (up_filter.shape[0], down_filter.shape[0]), x.shape[2 + axis]
            raise ValueError(
                f"padding is {flat[2 * axis : 2 * axis + 2]} for axis {axis}; expected a sum of at "
                f"least {sum(taps) - 1 - n * up}: {n} samples times up = {up} are too few for "
                f"filters of {taps[0]} and {taps[1]} taps"
            )
    return Arguments(
        x,
        up_filter,
        down_filter,
        bias,
        up,
        down,
        flat,
        activation,
        float(negative_slope),
        float(gain),
    )


def beyond_triton(a: Arguments) -> tuple[tuple[str, str], ...]:
    """Why the Triton kernels, which write every tap out, cannot serve filters that are too long.

    A period is the least common multiple of the factors. It may be filtered from 24 samples along
    an axis, on three axes from 10, and a thread may hold 512 numbers.
    """
    period, axes = a.up, a.x.dim() - 2
    while period % a.down:  # torch.compile does not trace math.lcm of symbols
        period += a.up
    taps = a.up_filter.shape[0], a.down_filter.shape[0]
    window = max((period + n) // rate for n, rate in zip(taps, (a.up, a.down), strict=True)) + 1
    phases = 1 << (period - 1).bit_length()  # that a thread has along an axis, a power of two
    if window <= (24 if axes < 3 else 10) and window * phases ** max(axes - 1, 1) <= 512:
        return ()
    reason = (
        f"triton writes every tap out, which is too much code for filters of {taps[0]} and "
        f"{taps[1]} taps, up = {a.up} and down = {a.down} on {axes} axes"
    )
    return (("triton", reason),)


def beyond_cuda(a: Arguments) -> tuple[tuple[str, str], ...]:
    """Why the CUDA kernels cannot serve filters for which no tile fits into a block's 96 KiB.

    `Planner` in csrc/alias_free_activation/plan_cuda.h knows how much a tile takes; this is what
    one of a single sample takes at most.
    """
    K, M, axes = a.up_filter.shape[0], a.down_filter.shape[0], a.x.dim() - 2
    near, of_out = -(-K // a.up), -(-(M + a.up - 1) // a.up)  # samples of x
    of_x = (near * a.up + 3 * a.down - 3) // a.down + -(-M // a.down) - 1  # samples of v_out
    forward = _tile_numbers(axes, of_out * a.up, of_out + near - 1)
    backward = _tile_numbers(axes, near * a.up, 2 * near - 1, of_x)
    if (K + M + max(forward, backward)) * sum_dtype(a.x.dtype).itemsize <= 95 << 10:
        return ()
    reason = (
        f"cuda keeps a tile of the upsampled signal in shared memory, which filters of {K} and {M} "
        f"taps, up = {a.up} and down = {a.down} exceed on {axes} axes"
    )
    return (("cuda", reason),)


def _tile_numbers(axes: int, fine: int, *coarse: int) -> int:
    """At most: the buffers F, R and Q, and on three axes the slices of x and v_out."""
    most = max(coarse)
    if axes == 1:
        return 2 * fine + most + 20
    slices = sum(n * n * (n + 1) for n in coarse) if axes == 3 else 0
    return (fine + most) * (fine + 1) + most * (most + 1) + slices


def _check_shapes(x: Tensor, up_filter: Tensor, down_filter: Tensor, bias: Tensor | None) -> None:
    if not 3 <= x.dim() <= 5:
        raise ValueError(
            f"x has shape {tuple(x.shape)}; expected (B, C, *grid) with 1 to 3 axes of the grid"
        )
    if any(n < 1 for n in x.shape[1:]):
        raise ValueError(f"x has shape {tuple(x.shape)}; expected C >= 1 and axes of the grid >= 1")
    for name, taps in (("up_filter", up_filter), ("down_filter", down_filter)):
        if taps.dim() != 1 or taps.shape[0] < 1:
            raise ValueError(f"{name} has shape {tuple(taps.shape)}; expected (taps,), taps >= 1")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != x.shape[1]):
        raise ValueError(f"bias has shape {tuple(bias.shape)}; expected (C,) = ({x.shape[1]},)")


def _check_dtypes(x: Tensor, given: dict[str, Tensor | None]) -> None:
    if x.dtype not in DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in DTYPES)
        raise ValueError(f"x has dtype {x.dtype}; expected one of {names}")
    allowed = tuple(dict.fromkeys((x.dtype, sum_dtype(x.dtype))))
    for name, value in given.items():
        if value is not None and value.dtype not in allowed:
            names = " or ".join(str(d) for d in allowed)
            raise ValueError(f"{name} has dtype {value.dtype}; expected {names}")


def _flat_padding(padding: Padding, axes: int) -> tuple[int, ...]:
    """(low, high) of every axis, one after the other."""
    wanted = f"(low, high), or one such pair for each of the {axes} axes"
    if not isinstance(padding, Sequence) or isinstance(padding, str):
        raise TypeError(f"padding is {padding!r}; expected {wanted}")
    nested = [isinstance(p, Sequence) and not isinstance(p, str) for p in padding]
    pairs: list[Any] = list(padding) if nested and all(nested) else [padding] * axes
    if len(pairs) != axes or any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"padding is {padding!r}; expected {wanted}")
    flat = tuple(n for pair in pairs for n in pair)
    if any(not isinstance(n, int) or isinstance(n, bool) for n in flat):
        raise TypeError(f"padding is {padding!r}; expected integers, as {wanted}")
    return flat


def canonical(a: Arguments) -> Arguments:
    """The form that kernels and the composite take: filters and bias in the dtype of sums."""
    real = sum_dtype(a.x.dtype)
    return a._replace(
        up_filter=a.up_filter.to(real),
        down_filter=a.down_filter.to(real),
        bias=None if a.bias is None else a.bias.to(real),
    )


def output_order(x: Tensor) -> list[int]:
    """The axes of the output from the slowest to the fastest: x's, natural if it has holes."""
    order = memory_order(x.stride())
    expected = 1
    for axis in reversed(order):
        if x.shape[axis] != 1:
            if x.stride(axis) != expected:
                return list(range(x.dim()))
            expected *= max(x.shape[axis], 1)
    return order


def empty_output(x: Tensor, grid: Sequence[int]) -> Tensor:
    """An uninitialised (B, C, *grid) with x's dtype and, where x is dense, its order of axes."""
    sizes = [*x.shape[:2], *grid]
    strides, step = [0] * len(sizes), 1
    for axis in reversed(output_order(x)):
        strides[axis] = step
        step = step * max(sizes[axis], 1)
    return x.new_empty_strided(sizes, strides)
