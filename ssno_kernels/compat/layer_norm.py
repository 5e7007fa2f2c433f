# SPDX-License-Identifier: MIT
"""mamba_ssm's normalisation of a residual stream, which its models import beside the scan."""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout

from .not_covered import not_covered

__all__ = ["RMSNorm", "layer_norm_fn", "rms_norm_fn"]


@overload
def layer_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    prenorm: Literal[False] = ..., residual_in_fp32: bool = ..., is_rms_norm: bool = ...,
    return_dropout_mask: bool = ...,
) -> Tensor: ...  # fmt: skip
@overload
def layer_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    *, prenorm: Literal[True], residual_in_fp32: bool = ..., is_rms_norm: bool = ...,
    return_dropout_mask: bool = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def layer_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    prenorm: bool = ..., residual_in_fp32: bool = ..., is_rms_norm: bool = ...,
    return_dropout_mask: bool = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def layer_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    is_rms_norm: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Norm of s = residual + dropout(rowscale x) over the last axis, times weight, plus bias.

    With `prenorm` also s, the new residual: in the residual's dtype, or where there is none in
    float32 if `residual_in_fp32`, else in x's. A norm is computed in float32 at least.
    """
    if any(t is not None for t in (x1, weight1, bias1)) or return_dropout_mask:
        not_covered("layer_norm_fn with x1, weight1, bias1 or return_dropout_mask", "two calls")
    s = x if rowscale is None else x * rowscale[..., None]
    s = dropout(s, dropout_p) if dropout_p > 0 else s
    if residual is not None:
        new_residual = (s + residual).to(residual.dtype)
    else:
        new_residual = s.float() if residual_in_fp32 else s
    wide = new_residual.to(torch.promote_types(new_residual.dtype, torch.float32))
    if not is_rms_norm:
        wide = wide - wide.mean(-1, keepdim=True)
    y = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight
    y = (y if bias is None else y + bias).to(x.dtype)
    return (y, new_residual) if prenorm else y


@overload
def rms_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    prenorm: Literal[False] = ..., residual_in_fp32: bool = ...,
    return_dropout_mask: bool = ...,
) -> Tensor: ...  # fmt: skip
@overload
def rms_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    *, prenorm: Literal[True], residual_in_fp32: bool = ...,
    return_dropout_mask: bool = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def rms_norm_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None = ...,
    x1: Tensor | None = ..., weight1: Tensor | None = ..., bias1: Tensor | None = ...,
    eps: float = ..., dropout_p: float = ..., rowscale: Tensor | None = ...,
    prenorm: bool = ..., residual_in_fp32: bool = ...,
    return_dropout_mask: bool = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def rms_norm_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    residual: Tensor | None = None,
    x1: Tensor | None = None,
    weight1: Tensor | None = None,
    bias1: Tensor | None = None,
    eps: float = 1e-6,
    dropout_p: float = 0.0,
    rowscale: Tensor | None = None,
    prenorm: bool = False,
    residual_in_fp32: bool = False,
    return_dropout_mask: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """`layer_norm_fn` by the root mean square alone."""
    return layer_norm_fn(
        x, weight, bias, residual, x1, weight1, bias1, eps, dropout_p, rowscale, prenorm,
        residual_in_fp32, True, return_dropout_mask,
    )  # fmt: skip


class RMSNorm(nn.Module):
    """`rms_norm_fn` with a learnt weight."""

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-5,
        dropout_p: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.eps, self.p = eps, dropout_p
        self.weight = nn.Parameter(torch.ones(hidden_size, device=device, dtype=dtype))
        self.register_parameter("bias", None)

    def forward(
        self,
        x: Tensor,
        residual: Tensor | None = None,
        prenorm: bool = False,
        residual_in_fp32: bool = False,
    ) -> Tensor | tuple[Tensor, Tensor]:
        return rms_norm_fn(
            x,
            self.weight,
            None,
            residual,
            eps=self.eps,
            dropout_p=self.p if self.training else 0.0,
            prenorm=prenorm,
            residual_in_fp32=residual_in_fp32,
        )
