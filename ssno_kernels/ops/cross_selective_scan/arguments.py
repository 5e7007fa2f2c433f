# SPDX-License-Identifier: MIT
"""The checks of `cross_selective_scan`'s arguments, and the one form in which kernels take them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from ..selective_scan.arguments import (
    ACTIVATION_DTYPES,
    _expect,
    _expect_dtype,
    state_dtype,
)
from .traversals import Traversal, check_traversals

MERGES = ("sum", "stack")


class Arguments(NamedTuple):
    """The checked arguments, as the user gave them."""

    x: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    delta_bias: Tensor | None
    delta_weight: Tensor | None
    delta_softplus: bool
    traversals: tuple[Traversal, ...]
    stack: bool


def check(
    x: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None,
    delta_bias: Tensor | None, delta_weight: Tensor | None, delta_softplus: bool,
    traversals: Sequence[Traversal], merge: str,
) -> Arguments:  # fmt: skip
    """Raise for arguments that do not fit; say which, what came and what would serve."""
    optional = {"D": D, "delta_bias": delta_bias, "delta_weight": delta_weight}
    needed = {"x": x, "delta": delta, "A": A, "B": B, "C": C}
    tensors: dict[str, Tensor | None] = {**needed, **optional}
    for name, value in tensors.items():
        if not (isinstance(value, Tensor) or (name in optional and value is None)):
            wanted = "a Tensor or None" if name in optional else "a Tensor"
            raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")
    if not isinstance(delta_softplus, bool):
        raise TypeError(f"delta_softplus is {delta_softplus!r}; expected True or False")
    if merge not in MERGES:
        raise ValueError(f"merge is {merge!r}; expected 'sum' or 'stack'")
    orders = check_traversals(traversals)
    given = Arguments(
        *(x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus),
        *(orders, merge == "stack"),
    )
    _check_shapes(given)
    _check_dtypes(given)
    for name, value in tensors.items():
        if value is not None and value.device != x.device:
            raise ValueError(f"{name} is on {value.device}; expected {x.device}, where x is")
    return given


def _check_shapes(a: Arguments) -> None:
    shape = tuple(a.x.shape)
    if not 3 <= a.x.dim() <= 5:
        raise ValueError(f"x has shape {shape}; expected (B, D, *grid), a grid of 1 to 3 axes")
    if any(size < 1 for size in shape[1:]):
        raise ValueError(f"x has shape {shape}; expected D >= 1 and every axis of the grid >= 1")
    batch, channels, *grid = shape
    for k, (axes, _) in enumerate(a.traversals):
        if len(axes) != len(grid):
            raise ValueError(
                f"traversals[{k}] has axes {axes}; expected an order of the {len(grid)} axes of "
                f"the grid {tuple(grid)} of x"
            )
    count = len(a.traversals)
    if a.A.dim() != 3 or tuple(a.A.shape[:2]) != (count, channels) or a.A.shape[2] < 1:
        raise ValueError(
            f"A has shape {tuple(a.A.shape)}; expected (K, D, N) = ({count}, {channels}, N >= 1) "
            f"for {count} traversals"
        )
    if a.delta_weight is None:
        _expect("delta", a.delta, "(B, K, D, *grid)", (batch, count, channels, *grid))
    else:
        w = a.delta_weight
        if w.dim() != 3 or tuple(w.shape[:2]) != (count, channels) or w.shape[2] < 1:
            raise ValueError(
                f"delta_weight has shape {tuple(w.shape)}; expected (K, D, R) = "
                f"({count}, {channels}, R >= 1)"
            )
        _expect("delta", a.delta, "(B, K, R, *grid)", (batch, count, w.shape[2], *grid))
    for name, M in (("B", a.B), ("C", a.C)):
        _expect(name, M, "(B, K, N, *grid)", (batch, count, a.A.shape[2], *grid))
    for name, rows in (("D", a.D), ("delta_bias", a.delta_bias)):
        if rows is not None:
            _expect(name, rows, "(K, D)", (count, channels))


def _check_dtypes(a: Arguments) -> None:
    activation = a.x.dtype
    if activation not in ACTIVATION_DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in ACTIVATION_DTYPES)
        raise ValueError(f"x has dtype {activation}; expected one of {names}")
    for name in ("delta", "B", "C"):
        _expect_dtype(name, getattr(a, name), (activation,))
    for name in ("A", "D", "delta_bias", "delta_weight"):
        _expect_dtype(name, getattr(a, name), (activation, state_dtype(activation)))


def canonical(a: Arguments) -> Arguments:
    """The form that kernels and the composite take: parameters in the state's dtype."""
    real = state_dtype(a.x.dtype)

    def optional(p: Tensor | None) -> Tensor | None:
        return None if p is None else p.to(real)

    return a._replace(
        A=a.A.to(real),
        D=optional(a.D),
        delta_bias=optional(a.delta_bias),
        delta_weight=optional(a.delta_weight),
    )
