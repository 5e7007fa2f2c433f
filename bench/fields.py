# SPDX-License-Identifier: MIT
"""Real fields as inputs: the Darcy data of `bench/data`, and an SS2D layer's view of them."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, silu

from ssno_kernels.ops.spec import BenchShape, Inputs

DATA = Path(__file__).parent / "data" / "darcy.npz"
TRAVERSALS = 4  # of the cross-scan: row-major, column-major, and both reversed


@cache
def darcy(size: int) -> Tensor:
    """(sample, 2, size, size): the permeability (0 or 1) and the solution; size is 16 or 32."""
    with np.load(DATA) as arrays:
        bits = np.unpackbits(arrays[f"coefficient_{size}"], axis=-1)
        solution = arrays[f"solution_{size}"]
    return torch.stack([torch.from_numpy(bits).float(), torch.from_numpy(solution)], dim=1)


def grid_of(length: int) -> tuple[int, int]:
    """The grid closest to a square that has `length` points."""
    height = next(h for h in range(math.isqrt(length), 0, -1) if length % h == 0)
    return height, length // height


def lifted(batch: int, channels: int, grid: tuple[int, int], seed: torch.Generator) -> Tensor:
    """(B, channels, H, W): fields on the grid with its coordinates, a 1x1 layer and SiLU."""
    source = darcy(16 if max(grid) <= 16 else 32)
    source = source[torch.arange(batch) % len(source)]
    field = interpolate(source, size=grid, mode="bilinear", align_corners=False)
    axes = [torch.linspace(0, 1, n) for n in grid]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(batch, 2, *grid)
    weight = torch.randn(channels, 4, 1, 1, generator=seed)
    bias = torch.randn(channels, generator=seed)
    return silu(conv2d(torch.cat([field, x], dim=1), weight, bias))


def traverse(x: Tensor, order: int) -> Tensor:
    """(..., H, W) -> (..., L) in one of the orders of the cross-scan."""
    x = (x.transpose(-1, -2) if order % 2 else x).flatten(-2)
    return x.flip(-1) if order >= 2 else x


def uniform(seed: torch.Generator, bound: float, *shape: int) -> Tensor:
    return (2 * torch.rand(*shape, generator=seed) - 1) * bound


def first_bias(seed: torch.Generator, *shape: int) -> Tensor:
    """delta's bias as an SS2D layer begins: its softplus is log-uniform in [1e-3, 0.1]."""
    step = torch.exp(torch.empty(*shape).uniform_(math.log(1e-3), math.log(0.1), generator=seed))
    return step + torch.log(-torch.expm1(-step))


def ss2d_inputs(shape: BenchShape, seed: int = 0) -> Inputs:
    """What an SS2D layer with fresh weights gives its selective scan for lifted Darcy fields.

    The K = G traversals are groups of channels: each scans the same D / K channels in its own order
    and has its own projection to the low-rank delta, B and C, its own A, D and bias of delta.
    """
    batch, channels, length, states, groups = (shape.sizes[k] for k in "BDLNG")
    if groups > TRAVERSALS or channels % groups:
        raise ValueError(f"{shape.name}: G = {groups}; expected a divisor of D up to {TRAVERSALS}")
    inner = channels // groups
    rank = math.ceil(inner / 32)  # ceil(C / 16) for a layer of C channels that expands them twofold
    generator = torch.Generator().manual_seed(seed)
    field = lifted(batch, inner, grid_of(length), generator)
    u = torch.empty(batch, channels, length, dtype=shape.dtype)
    delta = torch.empty_like(u)
    B, C = (torch.empty(batch, groups, states, length, dtype=shape.dtype) for _ in range(2))
    for k in range(groups):
        own = slice(k * inner, (k + 1) * inner)
        x = traverse(field, k)
        u[:, own] = x
        weight = uniform(generator, inner**-0.5, rank + 2 * states, inner)
        low, B[:, k], C[:, k] = (weight @ x).split([rank, states, states], dim=1)
        delta[:, own] = uniform(generator, rank**-0.5, inner, rank) @ low
    inputs: Inputs = {
        "u": u,
        "delta": delta,
        "A": -torch.arange(1.0, states + 1).repeat(channels, 1),
        "B": B,
        "C": C,
        "D": torch.ones(channels),
        "delta_bias": first_bias(generator, channels),
        "delta_softplus": True,
    }
    if shape.gated:
        inputs["z"] = u.roll(1, dims=1)
    return inputs
