# SPDX-License-Identifier: MIT
"""The damped, frequency-modulated convolution of SS-NO; its maths and errors are stated here."""

from __future__ import annotations

from typing import Literal, overload

from torch import Tensor

from ...registry import choose
from ..autocast import autocasts
from . import composite, function, reference
from .arguments import Arguments, check
from .stepwise import damped_conv_kernel, damped_conv_step

__all__ = ["damped_conv", "damped_conv_kernel", "damped_conv_step"]


@overload
def damped_conv(
    u: Tensor, damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None = ..., *,
    step: float | Tensor = ..., direction: str = ..., boundary: str = ..., dim: int = ...,
    initial_state: Tensor | None = ..., return_final_state: Literal[False] = ...,
    backend: str | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def damped_conv(
    u: Tensor, damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None = ..., *,
    step: float | Tensor = ..., direction: str = ..., boundary: str = ..., dim: int = ...,
    initial_state: Tensor | None = ..., return_final_state: Literal[True],
    backend: str | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def damped_conv(
    u: Tensor, damping: Tensor, frequency: Tensor, coeff: Tensor, D: Tensor | None = ..., *,
    step: float | Tensor = ..., direction: str = ..., boundary: str = ..., dim: int = ...,
    initial_state: Tensor | None = ..., return_final_state: bool,
    backend: str | None = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
@autocasts("u")
def damped_conv(
    u: Tensor,
    damping: Tensor,
    frequency: Tensor,
    coeff: Tensor,
    D: Tensor | None = None,
    *,
    step: float | Tensor = 1.0,
    direction: str = "both",
    boundary: str = "zero",
    dim: int = -1,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Convolution of a grid axis with damped waves (SS-NO, arXiv 2507.23428, Eq. 4-5; S4D).

    For every channel, and for every other coordinate alone, with t along the axis ``dim``:

        (D1)  rate = (-damping + i frequency) step;  lambda = exp(rate)       for every mode n
        (D2)  h_t = lambda h_{t-1} + u_t             h_{-1} = initial_state, else 0
        (D3)  y_t = 2 Re sum_n coeff_n h_{n,t}       = sum_{j>=0} k[j] u_{t-j} from a zero state,
                                                     k[j] = 2 Re sum_n coeff_n lambda_n^j
        (D4)  out_t = D u_t + sum of y_t over the sweeps
        (D5)  periodic: h_{-1} = h^0_{L-1} / (1 - lambda^L), h^0 being the sweep from zero: the
              response to u repeated for ever

    A ``forward`` sweep runs t = 0 ... L-1, a ``backward`` one t = L-1 ... 0 (read t-1 as t+1), and
    ``both`` is one of each, so that lag 0 counts twice. The final state of a sweep is its h after
    its last sample; under a periodic boundary that is h_{-1} too.

    Adjoint of a sweep, with v_x the cotangent of x; v_final_state adds to v_h of the last step:

        (D6)  v_h_t = 2 conj(coeff) v_out_t + conj(lambda) v_h_{t+1}    periodic: v_h_L = v_h_0
        (D7)  v_u_t = Re sum_n v_h_{n,t}, plus D v_out_t once;  v_D = sum v_out_t u_t
        (D8)  v_coeff = sum 2 v_out_t conj(h_t);  v_rate = sum conj(lambda h_{t-1}) v_h_t
        (D9)  v_initial_state = conj(lambda) v_h_0

    where the sums run over t, batch and the other grid axes.

    Args:
        u: (B, H, *grid) with one grid axis or more; any strides, float64, float32, bfloat16 or
            float16.
        damping: (H, N) real, >= 0, 1/[unit of step]; > 0 where periodic.
        frequency: (H, N) real, rad/[unit of step].
        coeff: (H, N) complex. For ``both``, each of damping, frequency and coeff may be (2, H, N):
            the forward and the backward sweep's own.
        D: (H,) skip weight.
        step: length of a grid step, > 0: a number or a tensor () or (H,).
        direction: 'forward', 'backward' or 'both'.
        boundary: 'zero' or 'periodic'.
        dim: the grid axis that is swept; negative counts from the last.
        initial_state: (B, H, *grid without dim, N) complex, the state before a sweep's first
            sample; for ``both`` (2, B, H, *grid without dim, N). Not with a periodic boundary.
        return_final_state: return ``(out, final_state)``.
        backend: force 'triton', 'cpu', 'composite' or 'reference'; None chooses.

    D may have u's dtype or the state's: float64 for float64 u, float32 for the others. So may
    damping, frequency and step, or be float64 for any u: rate is computed in float64, and so are
    the powers of lambda. coeff and states are complex128 for float64 u, complex64 for the others.
    States and sums are kept in that precision. The output has u's dtype and, where u is dense, its
    memory layout.

    Returns:
        out, as u; with ``return_final_state`` also the final state, of initial_state's shape.

    Raises:
        ValueError: a shape, size, dtype, device or value does not fit; names the argument and what
            would. Values of damping and step are looked at on a CPU only, where that stalls
            nothing, and not while a graph is traced or under vmap.
        TypeError: an argument is of the wrong Python type.
        BackendError: a forced backend cannot serve these tensors; says why.

    NaN and infinity are not errors: they propagate, a NaN in ``damping[h]`` to all of
    ``out[:, h]``, one in u to its line along ``dim``.
    """
    arguments = check(
        Arguments(u, damping, frequency, coeff, D, step, initial_state, direction, boundary, dim)
    )
    if not isinstance(return_final_state, bool):
        raise TypeError(f"return_final_state is {return_final_state!r}; expected True or False")
    name = choose("damped_conv", u.device, backend)
    final_state: Tensor | None
    if name == "reference":
        out, final_state = reference.damped_conv(*arguments)
    elif name == "composite":
        out, final_state = composite.damped_conv(arguments)
    else:
        out, final_state = function.damped_conv(name, return_final_state, arguments)
    if not return_final_state:
        return out
    assert final_state is not None
    return out, final_state
