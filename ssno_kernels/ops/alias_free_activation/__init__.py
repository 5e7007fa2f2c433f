# SPDX-License-Identifier: MIT
"""The alias-free activation as one function; its maths, shapes and errors are stated here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...registry import choose
from ..autocast import autocasts
from . import composite, function, reference
from .arguments import beyond_cuda, beyond_triton, check

__all__ = ["alias_free_activation"]


@autocasts("x")
def alias_free_activation(
    x: Tensor,
    up_filter: Tensor,
    down_filter: Tensor,
    up: int,
    down: int,
    padding: Sequence[int] | Sequence[Sequence[int]],
    bias: Tensor | None = None,
    activation: str = "leaky_relu",
    negative_slope: float = 0.2,
    gain: float = 2**0.5,
    backend: str | None = None,
) -> Tensor:
    r"""A nonlinearity at a higher rate, between two low-pass filters (CNO, arXiv 2302.01178;
    MambaNO; filters as in arXiv 2106.12423), differentiable.

    On a grid of 1 to 3 axes, along every axis in turn, with n samples of x, K taps of up_filter f
    and M taps of down_filter g:

        (A1)  e[up i] = x[i] + bias, and 0 between            length n up
        (A2)  p[j] = e[j - low], 0 outside of e               length n up + low + high
        (A3)  s[j] = up sum_k f[k] p[j + K - 1 - k]           length n up + low + high - K + 1
        (A4)  t = gain act(s)                                 pointwise
        (A5)  out[i] = sum_k g[k] t[i down + M - 1 - k]       as many as fit into t

    Both filters are true convolutions over what is there (symmetric ones, as the field has, are
    correlations as well). An axis of n samples gives (n up + low + high - K - M + 1) // down + 1.
    Negative padding crops e. `ssno_kernels.alias_free_resampling` designs the filters and the
    padding for given sizes.

    act is leaky_relu (s above 0, else negative_slope s), silu (s / (1 + e^-s)), gelu (s times the
    normal distribution function of s, exact) or tanh.

    Adjoint, with v_x the cotangent of x and A3', A5' the transposes of the filters:

        (A6)  v_t = A5' v_out;    v_s = gain act'(s) v_t      act'(0) = negative_slope
        (A7)  v_x = A3' v_s at the samples of x;              v_bias sums v_x over batch and grid

    Args:
        x: (B, C, *grid) with 1 to 3 grid axes of at least one sample; any strides, float64,
            float32, bfloat16 or float16.
        up_filter: (K,) taps, for every axis; scaled by ``up`` here.
        down_filter: (M,) taps, for every axis.
        up: factor of zero insertion, 1 or more.
        down: factor of decimation, 1 or more.
        padding: (low, high) samples of the upsampled signal for all axes, or one pair per axis.
        bias: (C,).
        activation: 'leaky_relu', 'silu', 'gelu' or 'tanh'.
        negative_slope: of leaky_relu; the others ignore it.
        gain: multiplies the nonlinearity's result.
        backend: force 'cuda', 'triton', 'cpu', 'composite' or 'reference'; None chooses. Triton
            serves filters that need up to 24 samples along an axis at once, on three axes 10; cuda
            those that fit into shared memory, in float32 56 taps on two axes and 11 on three or
            more, the more the higher the rates.

    The filters and bias may have x's dtype or that of sums: float64 for float64 activations,
    float32 for the others. Where filters need a gradient, kernels leave it to the composite.

    Returns:
        (B, C, *grid_out) in x's dtype; where x is dense, its axes in the same order in memory.

    Raises:
        ValueError: a shape, size, dtype or device does not fit; names the argument and what would.
        TypeError: an argument is of the wrong Python type.
        BackendError: a forced backend cannot serve these tensors; says why.

    NaN and infinity are not errors: they propagate to every sample whose filters reach them.
    """
    arguments = check(
        x,
        up_filter,
        down_filter,
        bias,
        up,
        down,
        padding,
        activation,
        negative_slope,
        gain,
    )
    cannot = beyond_cuda(arguments) + beyond_triton(arguments)
    name = choose("alias_free_activation", x.device, backend, cannot)
    if name == "reference":
        return reference.alias_free_activation(*arguments)
    if name == "composite":
        return composite.alias_free_activation(arguments)
    return function.alias_free_activation(name, arguments)
