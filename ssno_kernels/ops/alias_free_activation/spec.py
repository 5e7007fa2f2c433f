# SPDX-License-Identifier: MIT
"""The table of `alias_free_activation`: samples, bad inputs, shapes to time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..spec import BadInput, BenchShape, Inputs, Spec, sampler, windows, with_
from . import alias_free_activation
from .arguments import sum_dtype


def make_inputs(
    dtype: torch.dtype,
    *,
    batch: int = 2,
    channels: int = 3,
    grid: tuple[int, ...] = (9, 11),
    up: int = 2,
    down: int = 2,
    taps: tuple[int, int] | None = None,
    padding: tuple[Any, ...] | None = None,
    bias: bool = True,
    seed: int = 0,
    **options: Any,
) -> Inputs:
    """Random inputs and random filters, 6 taps a factor and centred padding if not said otherwise.

    Filters without symmetry show an index that runs the wrong way.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    K, M = taps or (6 * up, 6 * down)
    if padding is None:
        low = (K + M + up - down - 2) // 2
        padding = (low, K + M - down - 1 - low)
    real = sum_dtype(dtype)
    inputs: Inputs = {
        "x": normal(batch, channels, *grid),
        "up_filter": normal(K, dtype=real) / K**0.5,
        "down_filter": normal(M, dtype=real) / M**0.5,
        "up": up,
        "down": down,
        "padding": padding,
    }
    if bias:
        inputs["bias"] = normal(channels, dtype=real)
    return inputs | options


def channels_last(inputs: Inputs) -> Inputs:
    """x with its channels next to one another in memory."""
    x = inputs["x"]
    return inputs | {"x": x.movedim(1, -1).contiguous().movedim(-1, 1)}


def transposed_grid(inputs: Inputs) -> Inputs:
    """x with the first axis of the grid fastest in memory."""
    x = inputs["x"]
    return inputs | {"x": x.transpose(2, -1).contiguous().transpose(2, -1)}


odd_strides = partial(windows, expanded="x")
_sample = sampler(make_inputs)
SAMPLES = (
    _sample("same"),
    _sample("same-larger", grid=(20, 38)),
    _sample("halving", up=2, down=4, grid=(8, 12)),
    _sample("doubling", up=4, down=2, grid=(5, 7), activation="tanh"),
    _sample("1-d", grid=(37,), activation="silu"),
    _sample("1-d-halving", up=2, down=4, grid=(40,), activation="gelu"),
    _sample("1-d-doubling", up=4, down=2, grid=(150,)),
    _sample("3-d", batch=1, grid=(3, 4, 5), activation="gelu"),
    _sample("3-d-halving", batch=1, channels=2, grid=(4, 2, 6), up=2, down=4, gain=1.0),
    _sample("3-d-doubling", batch=1, channels=2, grid=(2, 3, 2), up=4, down=2),
    _sample("silu", activation="silu"),
    _sample("gelu", activation="gelu"),
    _sample("tanh", activation="tanh", gain=0.5),
    _sample("slope-above-1", negative_slope=1.5, gain=-1.0),
    _sample("no-bias", bias=False),
    _sample("by-4", up=4, down=4, grid=(4, 3)),
    _sample("no-resampling", up=1, down=1, taps=(5, 3), padding=(4, 2)),
    _sample("no-filters", up=1, down=1, taps=(1, 1), padding=(0, 0)),
    _sample("down-only", up=1, down=2, taps=(4, 7), padding=(5, 5)),
    _sample("up-only", up=2, down=1, taps=(7, 4), padding=(5, 5), activation="silu"),
    _sample("by-3-over-2", up=3, down=2, taps=(10, 9), padding=(8, 9)),
    _sample("gaps", up=3, down=4, taps=(2, 3), padding=(1, 2), activation="tanh"),
    _sample("one-step-displaced", padding=(12, 9)),
    _sample("padding-per-axis", padding=((14, 9), (-3, 15))),
    _sample("cropped", grid=(30, 28), padding=((-7, -8), (-30, 40))),
    _sample("far-away", batch=1, channels=1, grid=(3, 3), padding=((60, 1), (-40, 80))),
    _sample("size-1", grid=(1, 1)),
    _sample("one-row", grid=(1, 50)),
    _sample("one-column", grid=(50, 1)),
    _sample("wide", batch=1, channels=1, grid=(3, 170)),
    _sample("one-plane", batch=1, channels=1, grid=(90, 6)),
    _sample("empty-batch", batch=0),
    _sample("channels-last", layout=channels_last, channels=19, grid=(5, 6)),
    _sample("channels-last-few", layout=channels_last, grid=(12, 17), activation="silu"),
    _sample("channels-last-halving", layout=channels_last, channels=16, up=2, down=4, grid=(6, 4)),
    _sample("channels-last-doubling", layout=channels_last, channels=9, up=4, down=2, grid=(3, 2)),
    _sample("channels-last-1-d", layout=channels_last, channels=33, grid=(10,)),
    _sample("channels-last-3-d", layout=channels_last, batch=1, channels=16, grid=(3, 2, 4)),
    _sample("transposed-grid", layout=transposed_grid, grid=(18, 5), padding=((12, 9), (11, 10))),
    _sample("odd-strides", layout=odd_strides),
    _sample("odd-strides-3-d", layout=odd_strides, grid=(3, 4, 2), channels=1),
)


BAD_INPUTS = (
    BadInput("x-rank", with_(x=lambda x: x[0, 0]), ValueError, r"x has shape \(9, 11\); expected"),
    BadInput(
        "x-4-axes", with_(x=torch.ones(1, 1, 2, 2, 2, 2)), ValueError, "x has shape .*1 to 3 axes"
    ),
    BadInput("x-no-samples", with_(x=lambda x: x[..., :0]), ValueError, "x has shape .*axes"),
    BadInput("x-no-channels", with_(x=lambda x: x[:, :0]), ValueError, "x has shape .*C >= 1"),
    BadInput("x-integer", with_(x=lambda x: x.long()), ValueError, "x has dtype torch.int64"),
    BadInput("x-not-tensor", with_(x=[1.0]), TypeError, "x is of type list; expected a Tensor"),
    BadInput(
        "up-filter-2-d",
        with_(up_filter=torch.ones(12, 12)),
        ValueError,
        r"up_filter has shape \(12, 12\); expected \(taps,\)",
    ),
    BadInput("up-filter-none", with_(up_filter=None), TypeError, "up_filter is of type NoneType"),
    BadInput(
        "up-filter-dtype", with_(up_filter=lambda f: f.double()), ValueError, "up_filter has dtype"
    ),
    BadInput(
        "down-filter-empty",
        with_(down_filter=torch.ones(0)),
        ValueError,
        r"down_filter has shape \(0,\); expected \(taps,\), taps >= 1",
    ),
    BadInput(
        "down-filter-dtype",
        with_(down_filter=lambda f: f.half()),
        ValueError,
        "down_filter has dtype torch.float16; expected torch.float32",
    ),
    BadInput(
        "down-filter-long",
        with_(down_filter=torch.ones(50)),
        ValueError,
        r"padding is \(11, 10\) for axis 0; expected a sum of at least 43",
    ),
    BadInput("up-0", with_(up=0), ValueError, "up is 0; expected at least 1"),
    BadInput("down-0", with_(down=0), ValueError, "down is 0; expected at least 1"),
    BadInput("up-not-integer", with_(up=2.0), TypeError, "up is 2.0; expected an integer"),
    BadInput("down-bool", with_(down=True), TypeError, "down is True; expected an integer"),
    BadInput(
        "padding-too-small",
        with_(padding=((11, 10), (0, 0))),
        ValueError,
        r"padding is \(0, 0\) for axis 1; expected a sum of at least 1: 11 samples times up = 2",
    ),
    BadInput("padding-number", with_(padding=11), TypeError, r"padding is 11; expected \(low, hi"),
    BadInput("padding-float", with_(padding=(11.0, 10)), TypeError, "padding is .*integers"),
    BadInput(
        "padding-3", with_(padding=(11, 10, 9)), ValueError, "padding is .*each of the 2 axes"
    ),
    BadInput(
        "padding-axes", with_(padding=((11, 10),)), ValueError, "padding is .*each of the 2 axes"
    ),
    BadInput("bias-size", with_(bias=lambda b: b[1:]), ValueError, r"bias has shape \(2,\); exp"),
    BadInput("bias-dtype", with_(bias=lambda b: b.double()), ValueError, "bias has dtype"),
    BadInput("bias-number", with_(bias=1.0), TypeError, "bias is of type float; expected a Tensor"),
    BadInput("device", with_(bias=lambda b: b.to("meta")), ValueError, "bias is on meta; expected"),
    BadInput(
        "activation",
        with_(activation="relu"),
        ValueError,
        "activation is 'relu'; expected one of leaky_relu, silu, gelu, tanh",
    ),
    BadInput("activation-type", with_(activation=3), TypeError, "activation is 3; exp"),
    BadInput(
        "slope", with_(negative_slope="0.2"), TypeError, "negative_slope is '0.2'; expected a numb"
    ),
    BadInput("gain", with_(gain=None), TypeError, "gain is None; expected a number"),
    BadInput("backend", with_(backend="cudnn"), ValueError, "backend is 'cudnn'; expected one of"),
)


def _bench(
    name: str, batch: int, channels: int, size: int, up: int, down: int, **options: Any
) -> BenchShape:
    """A square grid of L points; N = 1, since samples have no states."""
    sizes = dict(B=batch, D=channels, L=size * size, N=1, up=up, down=down)
    return BenchShape(name, sizes, **options)


BENCH_SHAPES = (
    _bench("same-64-b4", 4, 64, 64, 2, 2, quick=True),
    _bench("halving-64-b4", 4, 64, 64, 2, 4, quick=True),
    _bench("doubling-32-b4", 4, 64, 32, 4, 2, quick=True),
    _bench("same-8-b4", 4, 256, 8, 2, 2, quick=True),
    _bench("same-64", 16, 32, 64, 2, 2),
    _bench("halving-64", 16, 32, 64, 2, 4),
    _bench("doubling-32", 16, 32, 32, 4, 2),
    _bench("same-128-airfoil", 16, 16, 128, 2, 2),
    _bench("same-512", 1, 16, 512, 2, 2),
)

CORE = ("same", "halving", "3-d", "channels-last")

SPEC = Spec("alias_free_activation", alias_free_activation, SAMPLES, CORE, BAD_INPUTS, BENCH_SHAPES)
