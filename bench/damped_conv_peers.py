# SPDX-License-Identifier: MIT
"""What a user would run instead of our `damped_conv`: FFT convolution, its kernel written out."""

from __future__ import annotations

import torch
from torch import Tensor

from ssno_kernels import damped_conv_kernel
from ssno_kernels.ops.spec import BenchShape, Inputs

from .subjects import Implementation


def vandermonde(damping, frequency, coeff, length: int) -> Tensor:
    """k (..., H, L) as S4D's code has it: all powers of lambda in complex64, summed over modes."""
    rate = torch.complex(-damping, frequency)
    powers = torch.exp(rate[..., None] * torch.arange(length, device=rate.device))
    return 2 * torch.einsum("...hn,...hnl->...hl", coeff, powers).real


def circular(k: Tensor, direction: str) -> Tensor:
    """The kernel of lags 0 ... L-1 (and -1 ... 1-L, at the end) on a circle of 2 L points."""
    nothing = torch.zeros_like(k[..., :1])
    if direction == "forward":
        return torch.cat([k, nothing.expand_as(k)], dim=-1)
    ahead, behind = k[0], k[1]
    first = ahead[..., :1] + behind[..., :1]
    return torch.cat([first, ahead[..., 1:], nothing[0], behind[..., 1:].flip(-1)], dim=-1)


def convolve(u: Tensor, k: Tensor, D: Tensor, dim: int) -> Tensor:
    """u (B, H, *grid) along dim with k (H, 2 L), by FFTs of 2 L points."""
    length, n = u.shape[dim], k.shape[-1]
    shape = [1] * u.dim()
    x = u.float()
    spectrum = torch.fft.rfft(k)
    shape[1], shape[dim] = spectrum.shape
    product = torch.fft.rfft(x, n, dim=dim) * spectrum.reshape(shape)
    y = torch.fft.irfft(product, n, dim=dim).narrow(dim, 0, length)
    shape[dim] = 1
    return (y + D.reshape(shape) * x).to(u.dtype)


def fft(inputs: Inputs) -> Tensor:
    """Kernel generation and convolution, both sweeps by one product of spectra."""
    return _by_fft(**inputs)


def _by_fft(u, damping, frequency, coeff, D, direction, dim) -> Tensor:
    k = vandermonde(damping, frequency, coeff, u.shape[dim])
    return convolve(u, circular(k, direction), D, dim)


_kept: dict[tuple, Tensor] = {}


def fft_alone(inputs: Inputs) -> Tensor:
    """The FFTs alone: the kernel is made at the first call of a shape, which is not timed."""
    u, dim = inputs["u"], inputs["dim"]
    key = (u.data_ptr(), u.shape)
    if key not in _kept:
        modes = (inputs[name] for name in ("damping", "frequency", "coeff"))
        _kept.clear()
        _kept[key] = circular(damped_conv_kernel(*modes, 1.0, u.shape[dim]), inputs["direction"])
    return convolve(u, _kept[key], inputs["D"], dim)


def _forward_only(shape: BenchShape, backward: bool, device: str) -> str | None:
    return "the kernel is given, so the modes get no gradients" if backward else None


PEERS = (
    Implementation("fft", fft),
    Implementation("fft alone", fft_alone, _forward_only),
)
