# SPDX-License-Identifier: MIT
"""The benchmark of `cross_selective_scan`: inputs, least work, truth, and the peers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ssno_kernels import cross_merge, cross_scan, cross_selective_scan, selective_scan
from ssno_kernels.ops.cross_selective_scan.spec import SPEC
from ssno_kernels.ops.spec import BenchShape, Inputs

from . import selective_scan_peers
from .fields import TRAVERSALS, first_bias, grid_of, lifted, uniform
from .selective_scan import segmented
from .subjects import Implementation, OperatorBench, Truth, Work

CORNER = 16  # points an axis on which the composite's gradients are compared with the loop's
ON_GRID = ("x", "delta", "B", "C")


def inputs(shape: BenchShape, seed: int = 0) -> Inputs:
    """What an SS2D layer with fresh weights gives its scans for lifted Darcy fields."""
    batch, channels, length, states = (shape.sizes[k] for k in "BDLN")
    rank = shape.sizes.get("R", math.ceil(channels / 32))
    generator = torch.Generator().manual_seed(seed)
    x = lifted(batch, channels, grid_of(length), generator)
    weight = uniform(generator, channels**-0.5, TRAVERSALS * (rank + 2 * states), channels)
    projected = torch.einsum("pd,bdhw->bphw", weight, x).unflatten(1, (TRAVERSALS, -1))
    delta, B, C = projected.to(shape.dtype).split([rank, states, states], dim=2)
    return {
        "x": x.to(shape.dtype),
        "delta": delta,
        "A": -torch.arange(1.0, states + 1).expand(TRAVERSALS, channels, -1).contiguous(),
        "B": B,
        "C": C,
        "D": torch.ones(TRAVERSALS, channels),
        "delta_bias": first_bias(generator, TRAVERSALS, channels),
        "delta_weight": uniform(generator, rank**-0.5, TRAVERSALS, channels, rank),
    }


def cotangent(inputs: Inputs) -> Tensor:
    """x moved on by one channel: it has a field's structure."""
    return inputs["x"].roll(1, dims=1)


def work(shape: BenchShape, backward: bool) -> Work:
    """The least that a call must do, with every tensor on the grid read and written once.

    An element is a step of a traversal: (batch, traversal, channel, point). For each the arithmetic
    is that of `selective_scan` (see there), and R multiply-adds for delta by its factor; backward
    R for it again, and 2 R for v_delta and v_delta_weight. Moved are x, the factors, B and C in and
    out out; backward also v_out in and v_x, v_delta, v_B and v_C out.
    """
    batch, channels, length, states = (shape.sizes[k] for k in "BDLN")
    rank = shape.sizes.get("R", math.ceil(channels / 32))
    points = batch * length
    elements = points * TRAVERSALS * channels
    projected = TRAVERSALS * (rank + 2 * states)
    moved = 2 * channels + projected + backward * (3 * channels + 2 * projected)
    fmas = 4 * states + rank + backward * (12 * states + 3 * rank)
    exponentials = (1 + backward) * (states + 1) * elements
    return Work(elements, moved * points * shape.dtype.itemsize, exponentials, fmas * elements)


def sequences(inputs: Inputs) -> Inputs:
    """The arguments of one 1-D scan: every tensor on the grid permuted, delta by its factor."""
    x, weight = inputs["x"], inputs["delta_weight"]
    delta, B, C = (cross_scan(inputs[name], one_by_one=True) for name in ON_GRID[1:])
    return {
        "u": cross_scan(x).flatten(1, 2),
        "delta": (weight.to(x.dtype) @ delta).flatten(1, 2),
        "A": inputs["A"].flatten(0, 1),
        "B": B,
        "C": C,
        "D": inputs["D"].flatten(),
        "delta_bias": inputs["delta_bias"].flatten(),
        "delta_softplus": True,
    }


def merged(y: Tensor, x: Tensor) -> Tensor:
    """The scan of the sequences, each put back in the order of the grid, and summed."""
    y = y.unflatten(1, (TRAVERSALS, x.shape[1])).unflatten(-1, x.shape[2:])
    return cross_merge(y).view_as(x)


def permuted(inputs: Inputs) -> Tensor:
    """Permute in PyTorch, our own 1-D scan of all traversals as groups of channels, and back."""
    return merged(selective_scan(**sequences(inputs)), inputs["x"])


def mambapy(inputs: Inputs) -> Tensor:
    """The same with mambapy's parallel scan."""
    return merged(selective_scan_peers.mambapy(sequences(inputs)), inputs["x"])


def _part(inputs: Inputs) -> Inputs:
    """The last channel of the last batch, in all traversals."""
    part = {k: x[:, -1:] for k, x in inputs.items() if k not in ON_GRID}
    part |= {k: inputs[k][-1:] for k in ON_GRID}
    return part | {"x": inputs["x"][-1:, -1:]}


def truth(inputs: Inputs, v_out: Tensor, backward: bool) -> Truth:
    """Float64 on the part: the output by the reference loop, gradients by the composite.

    The loop's own gradients cost a time quadratic in L, so the composite of the 1-D scan gives them
    on permuted sequences, in segments that hand on their state, after it has given the loop's
    gradients on a corner of the grid.
    """
    part, v_part = _part(inputs), v_out[-1:, -1:]
    doubled, v = {k: x.cpu().double() for k, x in part.items()}, v_part.cpu().double()
    results = {"out": cross_selective_scan(**doubled, backend="reference")}
    if backward:
        corner = doubled | {k: doubled[k][..., :CORNER, :CORNER] for k in ON_GRID}
        v_corner = v[..., :CORNER, :CORNER]
        loop = _gradients(corner, v_corner, _by_loop)
        for name, value in _gradients(corner, v_corner, _by_segments).items():
            error = ((value - loop[name]).norm() / loop[name].norm()).item()
            if not error < 1e-12:
                raise AssertionError(f"composite's {name} is off the reference's by {error:.1e}")
        results |= _gradients(doubled, v, _by_segments)
    names = [name for name in ("out", "v_x") if name in results]
    return Truth(part, v_part, results, {name: lambda x: x[-1:, -1:] for name in names})


def _by_loop(inputs: Inputs) -> Tensor:
    return cross_selective_scan(**inputs, backend="reference")


def _by_segments(inputs: Inputs) -> Tensor:
    return merged(segmented(sequences(inputs), "composite"), inputs["x"])


def _gradients(inputs: Inputs, v_out: Tensor, run) -> dict[str, Tensor]:
    leaves = {k: x.detach().requires_grad_() for k, x in inputs.items()}
    gradients = torch.autograd.grad(run(leaves), list(leaves.values()), v_out)
    return {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}


PEERS = (
    Implementation("permute", permuted),
    Implementation("mambapy", mambapy, selective_scan_peers.needs("mambapy")),
)
BENCH = OperatorBench(SPEC, inputs, work, truth, PEERS, cotangent)
