# SPDX-License-Identifier: MIT
"""The checks of `selective_scan`'s arguments, and the one form in which kernels take them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# torch.compile does not trace dtype.to_complex()
COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}
ACTIVATION_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


class Arguments(NamedTuple):
    """The checked arguments, as the user gave them."""

    u: Tensor
    delta: Tensor
    A: Tensor
    B: Tensor
    C: Tensor
    D: Tensor | None
    z: Tensor | None
    delta_bias: Tensor | None
    delta_weight: Tensor | None
    initial_state: Tensor | None
    delta_softplus: bool
    reverse: bool


def state_dtype(activation: torch.dtype) -> torch.dtype:
    """The real dtype of states and sums for activations of a dtype."""
    return torch.float64 if activation == torch.float64 else torch.float32


def check(given: Arguments) -> Arguments:
    """Raise for arguments that do not fit; say which, what came and what would serve."""
    for name, value in zip(Arguments._fields, given, strict=True):
        optional = name not in ("u", "delta", "A", "B", "C")
        if name in ("delta_softplus", "reverse"):
            if not isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}; expected True or False")
        elif not (isinstance(value, Tensor) or (optional and value is None)):
            wanted = "a Tensor or None" if optional else "a Tensor"
            raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")
    _check_shapes(given)
    _check_dtypes(given)
    for name, value in zip(Arguments._fields, given, strict=True):
        if isinstance(value, Tensor) and value.device != given.u.device:
            raise ValueError(f"{name} is on {value.device}; expected {given.u.device}, where u is")
    return given


def _check_shapes(a: Arguments) -> None:
    if a.u.dim() != 3:
        raise ValueError(f"u has shape {tuple(a.u.shape)}; expected (B, D, L)")
    batch, channels, length = a.u.shape
    if channels < 1 or length < 1:
        raise ValueError(f"u has shape {tuple(a.u.shape)}; expected D >= 1 and L >= 1")
    if a.A.dim() != 2 or a.A.shape[0] != channels or a.A.shape[1] < 1:
        raise ValueError(f"A has shape {tuple(a.A.shape)}; expected (D, N) = ({channels}, N >= 1)")
    states = a.A.shape[1]
    if a.delta_weight is None:
        _expect("delta", a.delta, "(B, D, L)", (batch, channels, length))
    else:
        w = a.delta_weight
        if w.dim() != 2 or w.shape[0] != channels or w.shape[1] < 1:
            raise ValueError(
                f"delta_weight has shape {tuple(w.shape)}; expected (D, R) = ({channels}, R >= 1)"
            )
        _expect("delta", a.delta, "(B, R, L)", (batch, w.shape[1], length))
    _check_projection("B", a.B, a)
    _check_projection("C", a.C, a)
    for name, vector in (("D", a.D), ("delta_bias", a.delta_bias)):
        if vector is not None:
            _expect(name, vector, "(D,)", (channels,))
    if a.z is not None:
        _expect("z", a.z, "(B, D, L)", (batch, channels, length))
    if a.initial_state is not None:
        _expect("initial_state", a.initial_state, "(B, D, N)", (batch, channels, states))


def _check_projection(name: str, M: Tensor, a: Arguments) -> None:
    batch, channels, length = a.u.shape
    states = a.A.shape[1]
    last, written = (2 * length, "2 L") if a.A.is_complex() else (length, "L")
    if M.dim() == 2:
        _expect(name, M, "(D, N)", (channels, states))
    elif M.dim() == 3:
        _expect(name, M, f"(B, N, {written})", (batch, states, last))
    elif M.dim() == 4:
        groups = M.shape[1]
        if groups < 1 or channels % groups:
            raise ValueError(f"{name} has {groups} groups; expected a divisor of D = {channels}")
        _expect(name, M, f"(B, G, N, {written})", (batch, groups, states, last))
    else:
        raise ValueError(
            f"{name} has shape {tuple(M.shape)}; expected (D, N), (B, N, {written}) or "
            f"(B, G, N, {written})"
        )


def _expect(name: str, value: Tensor, letters: str, shape: tuple[int, ...]) -> None:
    if value.dim() != len(shape) or any(x != y for x, y in zip(value.shape, shape, strict=True)):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {letters} = {shape}")


def _check_dtypes(a: Arguments) -> None:
    activation = a.u.dtype
    if activation not in ACTIVATION_DTYPES:
        names = ", ".join(str(d).removeprefix("torch.") for d in ACTIVATION_DTYPES)
        raise ValueError(f"u has dtype {activation}; expected one of {names}")
    real = state_dtype(activation)
    parameter = (activation, real)
    cmplx = (COMPLEX[real],)
    is_complex = a.A.is_complex()
    _expect_dtype("A", a.A, (*parameter, *cmplx))
    for name in ("delta", "z"):
        _expect_dtype(name, getattr(a, name), (activation,))
    for name in ("B", "C"):
        M = getattr(a, name)
        constant = (*parameter, *cmplx) if is_complex else parameter
        _expect_dtype(name, M, constant if M.dim() == 2 else (activation,))
    for name in ("D", "delta_bias", "delta_weight"):
        _expect_dtype(name, getattr(a, name), parameter)
    _expect_dtype("initial_state", a.initial_state, cmplx if is_complex else parameter)


def _expect_dtype(name: str, value: Tensor | None, allowed: tuple[torch.dtype, ...]) -> None:
    if value is not None and value.dtype not in allowed:
        names = " or ".join(dict.fromkeys(str(d) for d in allowed))
        raise ValueError(f"{name} has dtype {value.dtype}; expected {names}")


def canonical(a: Arguments) -> Arguments:
    """The form of the arguments that kernels and the composite take.

    Parameters and states are in the state's dtype; a complex tensor is real with a last axis of 2;
    B and C are (D, N[, 2]) or (B, G, N, L[, 2]). All of it are views, but for small casts.
    """
    real = state_dtype(a.u.dtype)
    is_complex = a.A.is_complex()

    def parameter(x: Tensor) -> Tensor:
        return torch.view_as_real(x.to(COMPLEX[real])) if is_complex else x.to(real)

    def optional(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(real)

    def projection(M: Tensor) -> Tensor:
        if M.dim() == 2:
            return parameter(M)
        M = M[:, None] if M.dim() == 3 else M
        return M.unflatten(-1, (a.u.shape[2], 2)) if is_complex else M

    return a._replace(
        A=parameter(a.A),
        B=projection(a.B),
        C=projection(a.C),
        D=optional(a.D),
        delta_bias=optional(a.delta_bias),
        delta_weight=optional(a.delta_weight),
        initial_state=None if a.initial_state is None else parameter(a.initial_state),
    )
