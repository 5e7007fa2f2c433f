# SPDX-License-Identifier: MIT
"""The checks of `damped_conv`'s arguments, and the one form in which kernels take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# torch.compile does not trace dtype.to_complex()
COMPLEX = {torch.float64: torch.complex128, torch.float32: torch.complex64}
ACTIVATION_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
DIRECTIONS = ("forward", "backward", "both")
BOUNDARIES = ("zero", "periodic")


class Arguments(NamedTuple):
    """The checked arguments, as the user gave them, but for `dim`, which counts from 0."""

    u: Tensor
    damping: Tensor
    frequency: Tensor
    coeff: Tensor
    D: Tensor | None
    step: float | Tensor
    initial_state: Tensor | None
    direction: str
    boundary: str
    dim: int


class Canonical(NamedTuple):
    """What kernels and the composite take: complex tensors are real with a last axis of 2."""

    u: Tensor
    rate: Tensor
    """(S, H, N, 2) float64, contiguous: (D1) for each of the S = 1 or 2 sweeps."""
    coeff: Tensor
    """(S, H, N, 2) in the state's dtype, contiguous."""
    D: Tensor | None
    initial_state: Tensor | None
    """(S, B, H, *grid without dim, N, 2) in the state's dtype; any strides."""
    direction: int
    """0 forward, 1 backward, 2 both."""
    periodic: bool
    dim: int


def state_dtype(activation: torch.dtype) -> torch.dtype:
    """The real dtype of states and sums for activations of a dtype."""
    return torch.float64 if activation == torch.float64 else torch.float32


def rates(damping: Tensor, frequency: Tensor, step: float | Tensor) -> Tensor:
    """(D1) as complex128 (..., H, N); a phase in float32 would be off by its size times 6e-8."""
    return torch.view_as_complex(_rate_parts(damping, frequency, step))


def _rate_parts(damping: Tensor, frequency: Tensor, step: float | Tensor) -> Tensor:
    """Real and imaginary parts (..., H, N, 2) float64, in few operations: each takes some us."""
    if damping.shape != frequency.shape:
        damping, frequency = torch.broadcast_tensors(damping, frequency)
    parts = torch.stack((-damping, frequency), dim=-1).double()
    if isinstance(step, Tensor):
        step = step.double()
        return parts * (step[:, None, None] if step.dim() else step)
    return parts if step == 1 else parts * step


def canonical(a: Arguments) -> Canonical:
    """Bring checked arguments into the form of the kernels, differentiably.

    The chain rule to damping, frequency and step is PyTorch's own and costs O(H N).
    """
    real = state_dtype(a.u.dtype)
    sweeps = 2 if a.direction == "both" else 1

    def modes(parts: Tensor) -> Tensor:
        return parts.expand(sweeps, *parts.shape[-3:]).contiguous()

    state = a.initial_state
    if state is not None:
        state = torch.view_as_real((state if sweeps == 2 else state[None]).resolve_conj())
    return Canonical(
        a.u,
        modes(_rate_parts(a.damping, a.frequency, a.step)),
        modes(torch.view_as_real(a.coeff.resolve_conj())),
        a.D if a.D is None else a.D.to(real),
        state,
        DIRECTIONS.index(a.direction),
        a.boundary == "periodic",
        a.dim,
    )


def final_state_of(state: Tensor) -> Tensor:
    """The user's form of a state (S, B, H, *grid without dim, N, 2)."""
    state = torch.view_as_complex(state.contiguous())
    return state if state.shape[0] == 2 else state[0]


def check(given: Arguments) -> Arguments:
    """Raise for arguments that do not fit; say which, what came and what would serve."""
    _check_types(given)
    u, dim = given.u, given.dim
    if u.dim() < 3:
        raise ValueError(f"u has shape {tuple(u.shape)}; expected (B, H, *grid)")
    if not (2 <= dim < u.dim() or 2 - u.dim() <= dim < 0):
        raise ValueError(
            f"dim is {dim}; expected a grid axis of u {tuple(u.shape)}: "
            f"2 to {u.dim() - 1} or {2 - u.dim()} to -1"
        )
    given = given._replace(dim=dim % u.dim())
    _check_shapes(given)
    _check_dtypes(given)
    for name in ("damping", "frequency", "coeff", "D", "step", "initial_state"):
        value = getattr(given, name)
        if isinstance(value, Tensor) and value.device != u.device:
            raise ValueError(f"{name} is on {value.device}; expected {u.device}, where u is")
    check_values(given.damping, given.step, given.boundary == "periodic")
    return given


def _check_types(a: Arguments) -> None:
    for name in ("u", "damping", "frequency", "coeff"):
        expect_tensor(name, getattr(a, name))
    for name in ("D", "initial_state"):
        expect_tensor(name, getattr(a, name), optional=True)
    check_step_type(a.step)
    if isinstance(a.dim, bool) or not isinstance(a.dim, int):
        raise TypeError(f"dim is {a.dim!r}; expected an int")
    for name, words in (("direction", DIRECTIONS), ("boundary", BOUNDARIES)):
        word = getattr(a, name)
        if word not in words:
            error = ValueError if isinstance(word, str) else TypeError
            raise error(f"{name} is {word!r}; expected one of {', '.join(map(repr, words))}")
    if a.boundary == "periodic" and a.initial_state is not None:
        raise ValueError(
            "initial_state is given with boundary='periodic', which has no first sample; "
            "expected None"
        )


def expect_tensor(name: str, value: object, optional: bool = False) -> None:
    if not (isinstance(value, Tensor) or (optional and value is None)):
        wanted = "a Tensor or None" if optional else "a Tensor"
        raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")


def check_step_type(step: object) -> None:
    if isinstance(step, bool) or not isinstance(step, (int, float, Tensor)):
        raise TypeError(f"step is of type {type(step).__name__}; expected a number or a Tensor")


def _check_shapes(a: Arguments) -> None:
    shape = a.u.shape
    if shape[1] < 1 or shape[a.dim] < 1:
        raise ValueError(f"u has shape {tuple(shape)}; expected H >= 1 and L = shape[{a.dim}] >= 1")
    check_modes(a.damping, a.frequency, a.coeff, a.D, a.step, shape[1], a.direction == "both")
    if a.initial_state is not None:
        others = [n for i, n in enumerate(shape) if i != a.dim]
        expected, letters = (*others, a.damping.shape[-1]), "B, H, *grid without dim, N"
        if a.direction == "both":
            expected, letters = (2, *expected), f"2, {letters}"
        expect_shape("initial_state", a.initial_state, f"({letters})", expected)


def check_modes(
    damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None, step: float | Tensor,
    channels: int, two_sweeps: bool,
) -> None:  # fmt: skip
    """Shapes of what a mode or a channel has: (H, N), (2, H, N) for two sweeps, (H,)."""
    if damping.dim() < 2 or damping.shape[-2] != channels or damping.shape[-1] < 1:
        raise ValueError(
            f"damping has shape {tuple(damping.shape)}; expected (H, N) = ({channels}, N >= 1)"
        )
    modes = (channels, damping.shape[-1])
    for name, value in (("damping", damping), ("frequency", frequency), ("coeff", coeff)):
        if two_sweeps and value.dim() == 3:
            expect_shape(name, value, "(2, H, N)", (2, *modes))
        elif value.dim() == 3 and tuple(value.shape) == (2, *modes):
            raise ValueError(
                f"{name} has shape {tuple(value.shape)}; expected (H, N) = {modes}, since only "
                "direction='both' has two sweeps"
            )
        else:
            expect_shape(name, value, "(H, N)", modes)
    if D is not None:
        expect_shape("D", D, "(H,)", (channels,))
    if isinstance(step, Tensor) and step.dim():
        expect_shape("step", step, "() or (H,)", (channels,))


def expect_shape(name: str, value: Tensor, letters: str, shape: tuple[int, ...]) -> None:
    if value.dim() != len(shape) or any(x != y for x, y in zip(value.shape, shape, strict=True)):
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {letters} = {shape}")


def _check_dtypes(a: Arguments) -> None:
    activation = a.u.dtype
    expect_dtype("u", a.u, ACTIVATION_DTYPES)
    check_mode_dtypes(activation, a.damping, a.frequency, a.coeff, a.D, a.step)
    expect_dtype("initial_state", a.initial_state, (COMPLEX[state_dtype(activation)],))


def check_mode_dtypes(
    activation: torch.dtype, damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None,
    step: float | Tensor,
) -> None:  # fmt: skip
    real = state_dtype(activation)
    for name, value in (("damping", damping), ("frequency", frequency), ("step", step)):
        if isinstance(value, Tensor):
            expect_dtype(name, value, (activation, real, torch.float64))
    expect_dtype("coeff", coeff, (COMPLEX[real],))
    expect_dtype("D", D, (activation, real))


def expect_dtype(name: str, value: Tensor | None, allowed: tuple[torch.dtype, ...]) -> None:
    if value is not None and value.dtype not in allowed:
        names = " or ".join(dict.fromkeys(str(d) for d in allowed))
        raise ValueError(f"{name} has dtype {value.dtype}; expected {names}")


def check_values(damping: Tensor, step: float | Tensor, periodic: bool = False) -> None:
    """Refuse negative damping and steps; NaN passes, to propagate."""
    if _anywhere(damping, lambda x: x < 0):
        raise ValueError(f"damping has the negative value {damping.min().item():g}; expected >= 0")
    if periodic and _anywhere(damping, lambda x: x == 0):
        raise ValueError("damping has the value 0; expected > 0 with boundary='periodic'")
    if isinstance(step, Tensor):
        if _anywhere(step, lambda x: x <= 0):
            raise ValueError(f"step has the value {step.min().item():g}; expected > 0")
    elif step <= 0:
        raise ValueError(f"step is {step}; expected > 0")


def _anywhere(x: Tensor, condition: Callable[[Tensor], Tensor]) -> bool:
    """Whether it holds somewhere; False where values cannot be read, or only by a stall."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        return False
    try:
        return bool(condition(x).any())
    except RuntimeError:  # under vmap
        return False
