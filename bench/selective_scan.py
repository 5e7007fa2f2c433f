# SPDX-License-Identifier: MIT
"""The benchmark of `selective_scan`: its least work, and the truth on a part of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ssno_kernels import selective_scan
from ssno_kernels.ops.selective_scan.spec import SPEC
from ssno_kernels.ops.spec import BenchShape, Inputs

from .fields import ss2d_inputs
from .selective_scan_peers import PEERS
from .subjects import OperatorBench, Truth, Work

PER_CHANNEL = ("u", "delta", "z")  # (B, D, L)
PARAMETERS = ("A", "D", "delta_bias")  # (D, ...)
PROJECTIONS = ("B", "C")  # (B, G, N, L)
SEGMENT = 1024  # steps differentiated at once: the cost of slices is quadratic in them


def work(shape: BenchShape, backward: bool) -> Work:
    """The least that a call must do, with every tensor read and written once.

    Forward, for every element: N exponentials (exp(dt A)), one more for softplus and for the gate;
    for every state 4 multiply-adds: dt A, (dt u) B, a h + b, sum of C h.
    Backward, beside the forward: as many exponentials again, since storing N of them for every
    element costs more than computing them; for every state 12 multiply-adds: 3 for h again, then
    C v_y + v_h (1), a v_h (1), v_C (1), v_B (1), h - b and times v_h (2), v_A (1), sum of A w (1),
    sum of B v_h (1). The logarithm of softplus is not counted.
    """
    batch, channels, length, states, groups = (shape.sizes[k] for k in "BDLNG")
    elements = batch * channels * length
    transcendental = states + 1 + shape.gated
    projections = 2 * batch * groups * states * length
    moved = (3 + shape.gated) * elements + projections  # u, delta, z, B, C in; out
    fmas = 4 * states * elements
    if backward:
        moved += (5 + 2 * shape.gated) * elements + 2 * projections  # v_out too; v_u ... v_C out
        fmas += 12 * states * elements
    exponentials = (1 + backward) * transcendental * elements
    return Work(elements, moved * shape.dtype.itemsize, exponentials, fmas)


def _part(inputs: Inputs) -> tuple[Inputs, int, Tensor]:
    """The last batch and the last channel of every group, all of L; also those indices."""
    batch, channels, _ = inputs["u"].shape
    groups = inputs["B"].shape[1]
    inner = channels // groups
    last = torch.arange(groups, device=inputs["u"].device) * inner + inner - 1
    part = dict(inputs)
    for name in PER_CHANNEL + PROJECTIONS + PARAMETERS:
        if name in inputs:
            x = inputs[name]
            x = x if name in PARAMETERS else x[batch - 1 :]
            part[name] = x if name in PROJECTIONS else x[last] if name in PARAMETERS else x[:, last]
    return part, batch - 1, last


def truth(inputs: Inputs, v_out: Tensor, backward: bool) -> Truth:
    """Float64 on the part: the output by the reference loop, gradients by the composite.

    The loop's own gradients cost a time quadratic in L, so the composite gives them, in segments
    that hand on their state, after it has given the loop's gradients on the first 1024 steps.
    """
    part, batch, last = _part(inputs)
    v_part = v_out[batch:, last]
    doubled = {k: x.cpu().double() if isinstance(x, Tensor) else x for k, x in part.items()}
    results = {"out": selective_scan(**doubled, backend="reference")}
    if backward:
        _compare_on_short(doubled, v_part.cpu().double())
        results |= _gradients(doubled, v_part.cpu().double(), "composite")
    names = ["out", *(f"v_{name}" for name in PER_CHANNEL)]
    whole = {name: lambda x: x[batch:, last] for name in names if name in results}
    return Truth(part, v_part, results, whole)


def segmented(inputs: Inputs, backend: str) -> Tensor:
    """The output by a backend that runs segment after segment."""
    sequences = {
        k: x.split(SEGMENT, -1)
        for k, x in inputs.items()
        if isinstance(x, Tensor) and k not in PARAMETERS
    }
    state, outs = None, []
    for i in range(len(sequences["u"])):
        pieces = {k: x[i] for k, x in sequences.items()}
        out, state = selective_scan(
            **(inputs | pieces), initial_state=state, return_final_state=True, backend=backend
        )
        outs.append(out)
    return torch.cat(outs, dim=-1)


def _gradients(inputs: Inputs, v_out: Tensor, backend: str) -> dict[str, Tensor]:
    leaves = {k: x.detach().requires_grad_() for k, x in inputs.items() if isinstance(x, Tensor)}
    out = segmented(inputs | leaves, backend)
    gradients = torch.autograd.grad(out, list(leaves.values()), v_out)
    return {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}


def _compare_on_short(inputs: Inputs, v_out: Tensor) -> None:
    """Raise unless composite and reference agree to 1e-12 on the gradients of the first steps."""
    short = {
        k: x[..., :SEGMENT] if isinstance(x, Tensor) and k not in PARAMETERS else x
        for k, x in inputs.items()
    }
    v_short = v_out[..., :SEGMENT]
    loop = _gradients(short, v_short, "reference")
    composite = _gradients(short, v_short, "composite")
    for name, expected in loop.items():
        error = ((composite[name] - expected).norm() / expected.norm()).item()
        if not error < 1e-12:
            raise AssertionError(f"composite's {name} differs from the reference's by {error:.1e}")


BENCH = OperatorBench(SPEC, ss2d_inputs, work, truth, PEERS)
