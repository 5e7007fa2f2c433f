# SPDX-License-Identifier: MIT
"""The benchmark of `alias_free_activation`: inputs, least work, truth, and the peers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, leaky_relu, pad

from ssno_kernels import alias_free_activation, alias_free_resampling
from ssno_kernels.ops.alias_free_activation.spec import SPEC
from ssno_kernels.ops.spec import BenchShape, Inputs

from .fields import grid_of, lifted
from .subjects import Implementation, OperatorBench, Truth, Work


def inputs(shape: BenchShape, seed: int = 0) -> Inputs:
    """Lifted Darcy fields, the filters of the field and a bias, as a MambaNO layer has them."""
    batch, channels, length = (shape.sizes[k] for k in "BDL")
    up, down = (shape.sizes.get(k, 2) for k in ("up", "down"))
    generator = torch.Generator().manual_seed(seed)
    resampling = alias_free_resampling(down, up)
    return {
        "x": lifted(batch, channels, grid_of(length), generator).to(shape.dtype),
        "up_filter": resampling.up_filter.float(),
        "down_filter": resampling.down_filter.float(),
        "up": up,
        "down": down,
        "padding": resampling.padding,
        "bias": 0.1 * torch.randn(channels, generator=generator),
    }


def cotangent(inputs: Inputs) -> Tensor:
    """The output itself, moved on by one channel: it has a field's structure."""
    return alias_free_activation(**inputs, backend="composite").roll(1, dims=1)


def work(shape: BenchShape, backward: bool) -> Work:
    """The least that a call must do: every tensor read and written once, no tap on a zero.

    Multiply-adds for every sample of x, K = 6 up and M = 6 down taps: K up (last axis), K up up
    (first axis, on up times as many), and from there down the same for M on the way out. The
    backward does the way in again, and both ways transposed. Halos are not counted.
    """
    up, down = (shape.sizes.get(k, 2) for k in ("up", "down"))
    elements = shape.sizes["B"] * shape.sizes["D"] * shape.sizes["L"]
    rate = up / down
    way_in = 6 * up + 6 * up * up
    way_out = 6 * down * up * rate + 6 * down * rate * rate
    fmas = way_in + way_out + backward * (2 * way_in + way_out)
    moved = 1 + rate**2 + backward * (2 + rate**2)
    return Work(elements, int(moved * elements * shape.dtype.itemsize), 0, int(fmas * elements))


def _part(inputs: Inputs) -> Inputs:
    """The last channel of the last batch."""
    return inputs | {"x": inputs["x"][-1:, -1:], "bias": inputs["bias"][-1:]}


def truth(inputs: Inputs, v_out: Tensor, backward: bool) -> Truth:
    """Float64 on the part, by the reference."""
    part, v_part = _part(inputs), v_out[-1:, -1:]
    leaves = {
        k: x.detach().cpu().double().requires_grad_()
        for k, x in part.items()
        if isinstance(x, Tensor)
    }
    learning = [k for k in leaves if k not in FIXED]
    out = alias_free_activation(**(part | leaves), backend="reference")
    results = {"out": out.detach()}
    if backward:
        gradients = torch.autograd.grad(out, [leaves[k] for k in learning], v_part.cpu().double())
        results |= {f"v_{k}": g for k, g in zip(learning, gradients, strict=True)}
    names = [name for name in ("out", "v_x") if name in results]
    return Truth(part, v_part, results, {name: lambda x: x[-1:, -1:] for name in names})


def zero_insertion(inputs: Inputs) -> Tensor:
    """Zero insertion, convolutions and slicing, as one writes it in PyTorch."""
    x, bias, up, down = (inputs[k] for k in ("x", "bias", "up", "down"))
    batch, channels, height, width = x.shape
    e = x.new_zeros(batch, channels, height, up, width, up)
    e[:, :, :, 0, :, 0] = x + bias[:, None, None]
    s = pad(e.view(batch, channels, height * up, width * up), inputs["padding"] * 2)
    s = _separable(s, up * inputs["up_filter"])
    t = 2**0.5 * leaky_relu(s, 0.2)
    return _separable(t, inputs["down_filter"])[..., ::down, ::down]


def _separable(x: Tensor, taps: Tensor) -> Tensor:
    channels = x.shape[1]
    columns = taps.flip(0).view(1, 1, -1, 1).expand(channels, 1, -1, 1)
    x = conv2d(x, columns, groups=channels)
    return conv2d(x, columns.transpose(2, 3), groups=channels)


FIXED = ("up_filter", "down_filter")
PEERS = (Implementation("zero insertion", zero_insertion),)
BENCH = OperatorBench(SPEC, inputs, work, truth, PEERS, cotangent, FIXED)
