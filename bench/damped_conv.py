# SPDX-License-Identifier: MIT
"""The benchmark of `damped_conv`: its inputs, its least work, the truth on a part of its inputs."""

from __future__ import annotations

import torch
from torch import Tensor

from ssno_kernels import damped_conv
from ssno_kernels.nn import DampedConv
from ssno_kernels.ops.damped_conv.spec import SPEC
from ssno_kernels.ops.spec import BenchShape, Inputs

from .damped_conv_peers import PEERS
from .fields import grid_of, lifted
from .subjects import OperatorBench, Truth, Work

MODES = ("damping", "frequency", "coeff")
SHORT = 1024  # samples on which the composite's gradients are compared with the loop's


def inputs(shape: BenchShape, seed: int = 0) -> Inputs:
    """Lifted Darcy fields and the modes of a fresh layer (`nn.DampedConv`, as S4D starts).

    damping and frequency are by grid step. A tensor `step` would have one number a channel for its
    gradient, whose terms cancel: complex64 powers give it to 1e-4, and peers would get no time.
    """
    lines, channels, length, states = (shape.sizes[k] for k in "BDLN")
    rows, dim = shape.sizes.get("rows", 1), shape.sizes.get("dim", 2)
    grid = (length, rows) if dim == 2 else (rows, length)
    generator = torch.Generator().manual_seed(seed)
    field = lifted(lines // rows, channels, grid if rows > 1 else grid_of(length), generator)
    direction = "both" if shape.sizes.get("S", 2) == 2 else "forward"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = DampedConv(channels, states, direction=direction)
    modes = layer.modes(torch.float32)
    step = modes.pop("step")[:, None]
    for name in ("damping", "frequency"):
        modes[name] = (modes[name] * step).float()
    parameters = {name: x.detach() for name, x in modes.items()}
    u = field if rows > 1 else field.flatten(2)
    return {"u": u.to(shape.dtype), **parameters, "direction": direction, "dim": dim}


def work(shape: BenchShape, backward: bool) -> Work:
    """The least that a call does with u read once and out written once, without an FFT.

    Forward, for every element and sweep, the lesser of two counts of multiply-adds: 4 N, by which
    a sample is added to the N complex states of its chunk (2 N) and they are read out for it (2 N);
    and (L + 1) / 2, the product with k itself. Within a chunk there is more of the second, between
    chunks a complex product for every state, and neither is counted. Backward, beside it: v_out
    enters the adjoint states and v_u is read from them (4 N), u enters the states again (2 N); or
    v_u and the sums over lags of v_out u, (L + 1) / 2 each. v_out and u are read, v_u is written.
    An FFT takes fewer multiply-adds for long lines, about 5 log2(2 L), and more passes over memory.
    The H N exponentials of a call, and k, are not counted: they are shared by all lines.
    """
    lines, channels, length, states = (shape.sizes[k] for k in "BDLN")
    elements = lines * channels * length
    sweeps = shape.sizes.get("S", 2)
    direct = (length + 1) / 2
    fmas = min(4 * states, direct) + backward * min(6 * states, 2 * direct)
    moved = 2 + 3 * backward
    return Work(elements, moved * elements * shape.dtype.itemsize, 0, int(sweeps * fmas * elements))


def _part(inputs: Inputs) -> Inputs:
    """The last batch and the last channel: every line of it, all of L."""
    part = inputs | {"u": inputs["u"][-1:, -1:], "D": inputs["D"][-1:]}
    return part | {k: inputs[k][..., -1:, :] for k in MODES}


def truth(inputs: Inputs, v_out: Tensor, backward: bool) -> Truth:
    """Float64 on the part: the output by the reference loop, gradients by the composite.

    The loop would keep every state for its gradients, so the composite gives them, after it has
    given the loop's gradients on the first 1024 samples.
    """
    part, v_part = _part(inputs), v_out[-1:, -1:]
    doubled = {k: _double(x) for k, x in part.items()}
    results = {"out": damped_conv(**doubled, backend="reference")}
    if backward:
        dim = inputs["dim"]
        length = min(SHORT, doubled["u"].shape[dim])
        short = doubled | {"u": doubled["u"].narrow(dim, 0, length)}
        v_short = _double(v_part).narrow(dim, 0, length)
        loop = _gradients(short, v_short, "reference")
        for name, value in _gradients(short, v_short, "composite").items():
            error = ((value - loop[name]).norm() / loop[name].norm()).item()
            if not error < 1e-12:
                raise AssertionError(f"composite's {name} is off the reference's by {error:.1e}")
        results |= _gradients(doubled, _double(v_part), "composite")
    names = [name for name in ("out", "v_u") if name in results]
    return Truth(part, v_part, results, {name: lambda x: x[-1:, -1:] for name in names})


def _double(x):
    if not isinstance(x, Tensor):
        return x
    return x.cpu().to(torch.complex128 if x.is_complex() else torch.float64)


def _gradients(inputs: Inputs, v_out: Tensor, backend: str) -> dict[str, Tensor]:
    leaves = {k: x.detach().requires_grad_() for k, x in inputs.items() if isinstance(x, Tensor)}
    out = damped_conv(**(inputs | leaves), backend=backend)
    gradients = torch.autograd.grad(out, list(leaves.values()), v_out)
    return {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}


BENCH = OperatorBench(SPEC, inputs, work, truth, PEERS)
