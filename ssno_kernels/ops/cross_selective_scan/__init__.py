# SPDX-License-Identifier: MIT
"""Selective scans along several traversals of a grid; maths, shapes and errors are stated here."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...registry import choose
from ..autocast import autocasts
from . import composite, function, reference
from .arguments import check
from .traversals import CROSS_1D, CROSS_2D, CROSS_3D, CROSS_3D_BOTH, Traversal

__all__ = ["CROSS_1D", "CROSS_2D", "CROSS_3D", "CROSS_3D_BOTH", "Traversal", "cross_selective_scan"]


@autocasts("x", "delta", "B", "C")
def cross_selective_scan(
    x: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = True,
    *,
    traversals: Sequence[Traversal] = CROSS_2D,
    delta_weight: Tensor | None = None,
    merge: str = "sum",
    backend: str | None = None,
) -> Tensor:
    r"""Selective scans along K traversals of a grid, merged (VMamba, arXiv 2401.10166; MambaNO).

    A grid (n_0, n_1, ...) of L points is visited by each traversal k, an order of the axes and a
    direction, and a selective scan (S1)-(S9) (see :func:`~ssno_kernels.selective_scan`) runs along:

        (X1)  p_k(t), t = 0 .. L-1: the points with the last of traversal k's axes counting fastest
              and its first slowest; the same points from the last to the first if it is reversed
        (X2)  u_t = x[p_k(t)], and delta_t, B_t, C_t = delta[k], B[k], C[k] at p_k(t), with A[k],
              D[k], delta_bias[k], delta_weight[k] and h_{-1} = 0, give y^k_t by (S1) to (S4)
        (X3)  out[p] = sum_k y^k_t, or out[k, p] = y^k_t for merge="stack", where p_k(t) = p

    Adjoint, with v_x the cotangent of x:

        (X4)  v_y^k_t = v_out[p_k(t)], or v_out[k, p_k(t)] for merge="stack"; (S6) to (S9) follow
        (X5)  v_x[p] = sum_k v_u^k_t where p_k(t) = p; the other cotangents belong to one k each

    All tensors are in the natural order of the grid: the traversals are index arithmetic, and no
    kernel permutes, flips or copies its inputs.

    Args:
        x: (B, D, *grid) input on a grid of 1, 2 or 3 axes; any strides, float64, float32,
            bfloat16 or float16.
        delta: (B, K, D, *grid) step size, or (B, K, R, *grid) factor with ``delta_weight``.
        A: (K, D, N) real state matrix, 1/[unit of delta].
        B: (B, K, N, *grid).
        C: (B, K, N, *grid).
        D: (K, D) skip weight.
        delta_bias: (K, D).
        delta_softplus: apply softplus to the biased step.
        traversals: K of them, each ``Traversal(axes, reverse)`` or such a pair; ``CROSS_2D`` is
            row-major, column-major, row-major reversed, column-major reversed. Any number in any
            order; one may occur twice, since each has parameters of its own.
        delta_weight: (K, D, R); then delta is its factor, and (B, K, D, *grid) is never formed by
            a kernel.
        merge: "sum" or "stack".
        backend: force 'cuda', 'triton', 'cpu', 'composite' or 'reference'; None chooses.

    x, delta, B and C share one dtype. A, D, delta_bias and delta_weight may have that dtype or the
    state's dtype: float64 for float64 activations, float32 for the others. States and sums, that
    over traversals included, are kept in the state's dtype. The output has x's dtype and, where x
    is dense, its memory layout.

    Returns:
        (B, D, *grid) for merge="sum", (B, K, D, *grid) for "stack".

    Raises:
        ValueError: a shape, size, dtype or device does not fit; names the argument and what would.
        TypeError: an argument is of the wrong Python type.
        BackendError: a forced backend cannot serve these tensors; says why.
    """
    arguments = check(
        x, delta, A, B, C, D, delta_bias, delta_weight, delta_softplus, traversals, merge
    )
    name = choose("cross_selective_scan", x.device, backend)
    if name == "reference":
        return reference.cross_selective_scan(*arguments)
    if name == "composite":
        return composite.cross_selective_scan(arguments)
    return function.cross_selective_scan(name, arguments)
