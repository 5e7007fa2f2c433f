# SPDX-License-Identifier: MIT
"""The selective scan of Mamba as one function; its maths, shapes and errors are stated here."""

from __future__ import annotations

from functools import partial
from typing import Literal, overload

import torch
from torch import Tensor

from ...registry import choose
from ..autocast import autocasts
from . import composite, function, packed, packed_operator, reference
from .arguments import Arguments, check
from .packed import seq_idx_from_cu_seqlens
from .stepwise import selective_scan_step

__all__ = ["selective_scan", "selective_scan_step", "seq_idx_from_cu_seqlens"]


@overload
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ..., *,
    delta_weight: Tensor | None = ..., initial_state: Tensor | None = ...,
    return_final_state: Literal[False] = ..., reverse: bool = ..., seq_idx: Tensor | None = ...,
    backend: str | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ..., *,
    delta_weight: Tensor | None = ..., initial_state: Tensor | None = ...,
    return_final_state: Literal[True], reverse: bool = ..., seq_idx: Tensor | None = ...,
    backend: str | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def selective_scan(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ..., *,
    delta_weight: Tensor | None = ..., initial_state: Tensor | None = ...,
    return_final_state: bool, reverse: bool = ..., seq_idx: Tensor | None = ...,
    backend: str | None = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
@autocasts("u", "delta", "B", "C", "z")
def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    delta_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    reverse: bool = False,
    seq_idx: Tensor | None = None,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    r"""Selective state-space scan (Mamba, arXiv 2312.00752, Algorithm 2), differentiable.

    For every batch b, channel d and state n, with t running forward (or backward if ``reverse``):

        (S1)  s_t = delta_t + delta_bias                     delta_t = sum_r delta_weight_r x_{r,t}
                                                             if delta is given as its factor x
        (S2)  dt_t = softplus(s_t) if delta_softplus else s_t      softplus is linear above 20
        (S3)  h_t = exp(dt_t A) h_{t-1} + dt_t B_t u_t       h_{-1} = initial_state, else 0
        (S4)  y_t = Re' <C_t, h_t> + D u_t                   <C, h> = sum_n C_n h_n, no conjugation
        (S5)  out_t = y_t silu(z_t)                          out = y without z

    Re' is the identity for a real A, and 2 Re for a complex one (conjugate pairs, one of each
    stored). ``final_state`` is h after the sweep's last step: t = L-1, or t = 0 if ``reverse``.

    Adjoint, with v_x the cotangent of x and v_y = v_out silu(z):

        (S6)  v_h_t = conj(C_t) v_y_t + conj(exp(dt_{t+1} A)) v_h_{t+1}    2 conj(C) for complex A
        (S7)  v_C_t = v_y_t conj(h_t);  v_B_t = dt_t u_t v_h_t               summed over channels
        (S8)  w_t = v_h_t conj(exp(dt_t A) h_{t-1});  v_A = sum_t dt_t w_t
        (S9)  v_dt_t = sum_n Re(conj(A) w_t) + u_t Re(conj(B_t) v_h_t);
              v_u_t = D v_y_t + dt_t sum_n Re(conj(B_t) v_h_t)

    Args:
        u: (B, D, L) input; any strides, float64, float32, bfloat16 or float16.
        delta: (B, D, L) step size, or (B, R, L) low-rank factor when ``delta_weight`` is given.
        A: (D, N) state matrix, real or complex, 1/[unit of delta].
        B: (D, N) constant, (B, N, L), or grouped (B, G, N, L): channel d reads group d // (D / G).
            For a complex A, a variable B is real with (re, im) interleaved along its last axis of
            length 2 L, a constant B is complex.
        C: as B. B and C may be of different kinds.
        D: (D,) skip weight.
        z: (B, D, L) gate.
        delta_bias: (D,).
        delta_softplus: apply softplus to the biased step.
        delta_weight: (D, R); then delta is its factor, and (B, D, L) is never formed by a kernel.
        initial_state: (B, D, N) state before the first step.
        return_final_state: return ``(out, final_state)``.
        reverse: sweep from the last sample to the first, as flipping every input and the output.
        seq_idx: (B, L), or (1, L) for all rows, int32 or int64, for several sequences packed one
            after the other: where it differs from the step before, a sequence starts from a state
            of zeros. The states given and returned belong to the first and the last sequence that
            the sweep meets. One scan for each stretch without a start in any row; its values are
            read, so no CUDA graph captures it, and torch.compile traces it for kernels alone.
            `seq_idx_from_cu_seqlens` makes it.
        backend: force 'cuda', 'triton', 'cpu', 'composite' or 'reference'; None chooses.

    u, delta, z and variable B, C share one dtype. A, D, delta_bias, delta_weight, constant B, C and
    the states may have that dtype or the state's dtype: float64 for float64 activations, float32
    for the others (complex128, complex64 where the value is complex). States and sums are kept in
    the state's dtype. The output has u's dtype and, where u is dense, its memory layout.

    Returns:
        out (B, D, L) in u's dtype; with ``return_final_state`` also (B, D, N) in the state's dtype.

    Raises:
        ValueError: a shape, size, dtype or device does not fit; names the argument and what would.
        TypeError: an argument is of the wrong Python type.
        BackendError: a forced backend cannot serve these tensors; says why.

    NaN and infinity are not errors: they propagate, a NaN in ``A[d]`` to all of ``out[:, d]``.
    Semantics are those of mamba_ssm's ``selective_scan_ref``, without its limits.
    """
    arguments = check(
        Arguments(
            u, delta, A, B, C, D, z, delta_bias, delta_weight, initial_state,
            delta_softplus, reverse,
        )
    )  # fmt: skip
    name = choose("selective_scan", u.device, backend)
    if seq_idx is None:
        out, final_state = _run(name, return_final_state, arguments)
    else:
        out, final_state = _run_packed(name, return_final_state, arguments, seq_idx)
    if not return_final_state:
        return out
    assert final_state is not None
    return out, final_state


def _run(backend: str, want_state: bool, arguments: Arguments) -> tuple[Tensor, Tensor | None]:
    if backend == "reference":
        return reference.selective_scan(*arguments)
    if backend == "composite":
        return composite.selective_scan(arguments)
    return function.selective_scan(backend, want_state, arguments)


def _run_packed(
    backend: str, want_state: bool, arguments: Arguments, seq_idx: Tensor
) -> tuple[Tensor, Tensor | None]:
    packed.check_seq_idx(seq_idx, arguments.u)
    if backend == "composite":
        starts = packed.starts_of(seq_idx, arguments.reverse)
        return composite.selective_scan(arguments, starts)
    if torch.compiler.is_compiling() and backend != "reference":
        return packed_operator.selective_scan(backend, want_state, arguments, seq_idx)
    return packed.selective_scan(partial(_run, backend), want_state, arguments, seq_idx)
