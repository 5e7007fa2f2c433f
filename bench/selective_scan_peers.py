# SPDX-License-Identifier: MIT
"""What a user would run instead of our `selective_scan`, computing the same function."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import silu, softplus

from ssno_kernels.ops.spec import BenchShape, Inputs

from .subjects import Implementation


def _discretised(u, delta, A, B, delta_bias, delta_softplus) -> tuple[Tensor, Tensor]:
    """exp(dt A) and dt B u as (B G, L, D / G, N): the groups of channels become batches."""
    batch, channels, length = u.shape
    groups = B.shape[1]
    dt = delta.float() + delta_bias[:, None]
    dt = softplus(dt) if delta_softplus else dt
    dt, x = (t.reshape(batch * groups, -1, length).transpose(1, 2) for t in (dt, u.float()))
    A = A.view(groups, 1, channels // groups, -1).repeat(batch, 1, 1, 1)
    a = torch.exp(dt.unsqueeze(-1) * A)
    b = (dt * x).unsqueeze(-1) * B.float().flatten(0, 1).transpose(1, 2).unsqueeze(2)
    return a, b


def _read_out(h: Tensor, u: Tensor, C: Tensor, D: Tensor, z: Tensor | None) -> Tensor:
    """The output from all the states (B G, L, D / G, N)."""
    y = (h @ C.float().flatten(0, 1).transpose(1, 2).unsqueeze(-1)).squeeze(-1)
    y = y.transpose(1, 2).reshape(u.shape) + D[:, None] * u
    return (y if z is None else y * silu(z.float())).to(u.dtype)


def mambapy(inputs: Inputs) -> Tensor:
    """mambapy's parallel scan, with the steps around it as in its MambaBlock."""
    from mambapy.pscan import pscan

    return _scanned_by(pscan, **inputs)


def associative_scan(inputs: Inputs) -> Tensor:
    """PyTorch's associative_scan in the mode that a CPU has and that has gradients."""
    from torch._higher_order_ops.associative_scan import associative_scan

    def combine(first, second):
        return first[0] * second[0], second[0] * first[1] + second[1]

    def scan(a, b):
        return associative_scan(combine, (a, b), 1, combine_mode="generic")[1]

    return _scanned_by(scan, **inputs)


def _scanned_by(scan, u, delta, A, B, C, D, delta_bias, delta_softplus, z=None) -> Tensor:
    a, b = _discretised(u, delta, A, B, delta_bias, delta_softplus)
    return _read_out(scan(a, b), u, C, D, z)


@cache
def _compiled():
    return torch.compile(associative_scan, dynamic=False)


def mamba_ssm(inputs: Inputs) -> Tensor:
    """The CUDA extension of mamba_ssm."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    return selective_scan_fn(**inputs)


def needs(module: str, cuda: bool = False):
    def why_not(shape: BenchShape, backward: bool, device: str) -> str | None:
        if cuda and device != "cuda":
            return f"{module} has no kernel for a {device}"
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed"
        return None

    return why_not


PEERS = (
    Implementation("mambapy", mambapy, needs("mambapy")),
    Implementation("associative_scan", associative_scan),
    Implementation("associative_scan compiled", lambda inputs: _compiled()(inputs), compiled=True),
    Implementation("mamba_ssm", mamba_ssm, needs("mamba_ssm", cuda=True)),
)
