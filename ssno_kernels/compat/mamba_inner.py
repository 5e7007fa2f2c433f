# SPDX-License-Identifier: MIT
"""mamba_ssm's scan, and what a Mamba block does between its first and its last projection."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import linear

from .causal_conv1d import causal_conv1d_fn
from .scan import scan

__all__ = [
    "mamba_inner_fn",
    "mamba_inner_ref",
    "selective_scan_fn",
    "selective_scan_ref",
]


@overload
def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    return_last_state: Literal[False] = ...,
) -> Tensor: ...  # fmt: skip
@overload
def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    *, return_last_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def selective_scan_fn(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    return_last_state: bool = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`selective_scan`: out (B, D, L) as u, and with `return_last_state` the state (B, D, N)."""
    out, state = scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state=return_last_state
    )
    return out if state is None else (out, state)


@overload
def selective_scan_ref(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    return_last_state: Literal[False] = ...,
) -> Tensor: ...  # fmt: skip
@overload
def selective_scan_ref(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    *, return_last_state: Literal[True],
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def selective_scan_ref(
    u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = ...,
    z: Tensor | None = ..., delta_bias: Tensor | None = ..., delta_softplus: bool = ...,
    return_last_state: bool = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def selective_scan_ref(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """The same by the loop over time that is our specification; slow."""
    out, state = scan(
        u, delta, A, B, C, D, z, delta_bias, delta_softplus,
        return_last_state=True, backend="reference",
    )  # fmt: skip
    return out if state is None or not return_last_state else (out, state)


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
    checkpoint_lvl: int = 1,
    b_rms_weight: Tensor | None = None,
    c_rms_weight: Tensor | None = None,
    dt_rms_weight: Tensor | None = None,
    b_c_dt_rms_eps: float = 1e-6,
) -> Tensor:
    """What a Mamba block does between its first projection and its output, (B, L, D / 2 or any).

    Args:
        xz: (B, 2 D, L): x passes the convolution and the scan, z gates the result.
        conv1d_weight, conv1d_bias: (D, 1, W), (D,).
        x_proj_weight: (R + N of each of B and C that is not given, D); 2 N for a complex A.
        delta_proj_weight: (D, R); delta is never formed, but where dt_rms_weight is given.
        out_proj_weight, out_proj_bias: (E, D), (E,).
        A, B, C, D, delta_bias, delta_softplus: as in `selective_scan`; B and C constant, or None to
            be projected from x.
        B_proj_bias, C_proj_bias: (N,), added to projected B and C.
        checkpoint_lvl: 0 or 1, no effect: delta, whose memory level 1 saves, is not kept anyway.
        b_rms_weight, c_rms_weight, dt_rms_weight: (N,), (N,), (D,): projected B, C and delta are
            divided by their root mean square and multiplied by these.
    """
    if checkpoint_lvl not in (0, 1):
        raise ValueError(f"checkpoint_lvl is {checkpoint_lvl!r}; expected 0 or 1")
    y, _ = inner(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias,
        B_proj_bias, C_proj_bias, delta_softplus,
        (b_rms_weight, c_rms_weight, dt_rms_weight, b_c_dt_rms_eps),
    )  # fmt: skip
    bias = out_proj_bias if out_proj_bias is None else out_proj_bias.to(out_proj_weight.dtype)
    return linear(y.transpose(1, 2), out_proj_weight, bias)


def mamba_inner_ref(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """The same as `mamba_inner_fn`: the original's, too, calls the fast scan."""
    return mamba_inner_fn(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, out_proj_weight,
        out_proj_bias, A, B, C, D, delta_bias, B_proj_bias, C_proj_bias, delta_softplus,
    )  # fmt: skip


def inner(
    xz: Tensor, conv1d_weight: Tensor, conv1d_bias: Tensor | None, x_proj_weight: Tensor,
    delta_proj_weight: Tensor, A: Tensor, B: Tensor | None, C: Tensor | None, D: Tensor | None,
    delta_bias: Tensor | None, B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None, delta_softplus: bool = True,
    rms: tuple[Tensor | None, Tensor | None, Tensor | None, float] = (None, None, None, 0.0),
    return_last_state: bool = False, dt_factor_rms: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """(y (B, D, L) before the last projection, the scan's last state or None).

    `dt_factor_rms`: delta's factor (B, R, L) is divided by its root mean square.
    """
    x, z = xz.chunk(2, dim=1)
    x = causal_conv1d_fn(x, conv1d_weight[:, 0], conv1d_bias, activation="silu")
    projected = linear(x.transpose(1, 2), x_proj_weight).transpose(1, 2)
    rank, states = delta_proj_weight.shape[1], A.shape[1] * (2 if A.is_complex() else 1)
    b_rms, c_rms, dt_rms, eps = rms
    if B is None:
        B = _projection(projected[:, rank : rank + states], B_proj_bias, b_rms, eps, A)
    if C is None:
        C = _projection(projected[:, -states:], C_proj_bias, c_rms, eps, A)
    delta, weight = projected[:, :rank], None
    if dt_factor_rms:
        delta = _rms_norm(delta, delta.new_ones(rank), eps)
    if dt_rms is None:
        weight = delta_proj_weight
    else:
        delta = _rms_norm(delta_proj_weight.to(delta.dtype) @ delta, dt_rms, eps)
    return scan(
        x, delta, A, B, C, D, z, delta_bias, delta_softplus,
        delta_weight=weight, return_last_state=return_last_state,
    )  # fmt: skip


def _projection(
    M: Tensor, bias: Tensor | None, rms_weight: Tensor | None, eps: float, A: Tensor
) -> Tensor:
    """(B, N or 2 N, L) from the projection of x as B or C of the scan."""
    if bias is not None:
        M = M + bias.to(M.dtype)[:, None]
    if rms_weight is not None:
        M = _rms_norm(M, rms_weight, eps)
    if A.is_complex():
        M = M.unflatten(1, (-1, 2)).transpose(2, 3).flatten(2)
    return M


def _rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Over the channels of (B, channels, L), in float32 at least."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    wide = wide * torch.rsqrt(wide.square().mean(1, keepdim=True) + eps)
    return (wide * weight[:, None]).to(x.dtype)
