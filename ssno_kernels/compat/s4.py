# SPDX-License-Identifier: MIT
"""The function of S4 that makes its convolution kernels."""

from __future__ import annotations

import torch
from torch import Tensor

from ..ops.damped_conv import damped_conv_kernel
from .not_covered import not_covered

__all__ = ["log_vandermonde"]


def log_vandermonde(v: Tensor, x: Tensor, L: int, conj: bool = True) -> Tensor:
    """sum_n v_n exp(x_n l) for l < L, (..., N) complex -> (..., L): 2 Re of it if `conj`.

    It is the kernel of :func:`ssno_kernels.damped_conv`, with its accuracy: the phase x l is in
    float64, and the matrix of L x N is never formed. Modes decay: Re x <= 0.
    """
    if not (v.is_complex() and x.is_complex()):
        raise ValueError(f"v and x have dtypes {v.dtype} and {x.dtype}; expected complex ones")
    v, x = torch.broadcast_tensors(v, x)
    batch, states = v.shape[:-1], v.shape[-1]
    v, x = v.reshape(-1, states), x.reshape(-1, states)
    if x.device.type == "cpu" and (x.real > 0).any():
        not_covered("log_vandermonde of modes that grow (Re x > 0)", "Re x <= 0")

    def twice_real(coeff: Tensor) -> Tensor:
        real = x.real.dtype
        kernel = damped_conv_kernel(-x.real, x.imag, coeff.to(x.dtype), 1.0, L)
        return kernel.to(real).view(*batch, L)

    if conj:
        return twice_real(v)
    return torch.complex(twice_real(v), twice_real(-1j * v)) / 2
