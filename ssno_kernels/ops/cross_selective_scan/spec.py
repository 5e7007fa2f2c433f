# SPDX-License-Identifier: MIT
"""The table of `cross_selective_scan`: samples, bad inputs, shapes to time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..selective_scan.arguments import state_dtype
from ..spec import BadInput, BenchShape, Inputs, Spec, sampler, windows, with_
from . import cross_selective_scan
from .traversals import CROSS_1D, CROSS_2D, CROSS_3D, CROSS_3D_BOTH, Traversal

ROWS, COLUMNS, ROWS_REVERSED, COLUMNS_REVERSED = CROSS_2D
TURNED = (COLUMNS, ROWS_REVERSED)  # few and small: Triton's interpreter runs every sample


def make_inputs(
    dtype: torch.dtype,
    *,
    batch: int = 1,
    channels: int = 3,
    grid: tuple[int, ...] = (2, 3),
    states: int = 4,
    traversals: tuple[Traversal, ...] = TURNED,
    rank: int = 0,
    extras: str = "D delta_bias",
    seed: int = 0,
    **options: Any,
) -> Inputs:
    """Random inputs on a scale where the states neither die at once nor grow."""
    generator = torch.Generator().manual_seed(seed)
    real = state_dtype(dtype)
    count = len(traversals)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    inputs: Inputs = {
        "x": normal(batch, channels, *grid),
        "delta": (0.5 * normal(batch, count, rank or channels, *grid)).abs(),
        "A": -normal(count, channels, states, dtype=real).abs() - 0.05,
        "B": normal(batch, count, states, *grid),
        "C": normal(batch, count, states, *grid),
    }
    if "D" in extras.split():
        inputs["D"] = normal(count, channels, dtype=real)
    if "delta_bias" in extras.split():
        inputs["delta_bias"] = normal(count, channels, dtype=real) - 1
    if rank:
        inputs["delta_weight"] = normal(count, channels, rank, dtype=real).abs() / rank
    return inputs | {"traversals": traversals} | options


def channels_last(inputs: Inputs) -> Inputs:
    """x, delta, B, C with the axis of channels fastest, as models on (B, *grid, D) have them."""

    def change(v: Tensor, axis: int) -> Tensor:
        return v.movedim(axis, -1).contiguous().movedim(-1, axis)

    axes = {"x": 1, "delta": 2, "B": 2, "C": 2}
    return inputs | {name: change(inputs[name], axis) for name, axis in axes.items()}


def transposed_grid(inputs: Inputs) -> Inputs:
    """Activations whose grid lies in memory with its axes the other way round."""
    grid = inputs["x"].dim() - 2

    def change(v: Tensor) -> Tensor:
        axes = [*range(v.dim() - grid), *reversed(range(v.dim() - grid, v.dim()))]
        return v.permute(axes).contiguous().permute(axes)

    return inputs | {name: change(inputs[name]) for name in ("x", "delta", "B", "C")}


_sample = sampler(make_inputs)
SAMPLES = (
    _sample("all", rank=2),
    _sample("cross", traversals=CROSS_2D),
    _sample("plain", extras="", delta_softplus=False),
    _sample("no-softplus", extras="D", delta_softplus=False, grid=(2, 5)),
    _sample("one-traversal", traversals=(COLUMNS,), extras="D", batch=3),
    _sample("odd-order", traversals=(COLUMNS_REVERSED, ROWS), rank=1, extras="delta_bias"),
    _sample("twice", traversals=(ROWS, COLUMNS, ROWS), grid=(3, 2)),
    _sample("row", grid=(1, 7)),
    _sample("column", grid=(6, 1), rank=2),
    _sample("point", grid=(1, 1), batch=2),
    _sample("1d", traversals=CROSS_1D, grid=(11,), states=3),
    _sample("3d", traversals=CROSS_3D[::2], grid=(2, 3, 2), states=2),
    _sample("3d-both-ways", traversals=CROSS_3D_BOTH[5:8], grid=(3, 2, 2), rank=1, states=2),
    _sample("3d-subset", traversals=(CROSS_3D_BOTH[10], CROSS_3D[1]), grid=(3, 1, 2), batch=2),
    _sample("one-state", channels=18, states=1),
    _sample("many-states", channels=2, states=70),
    _sample("past-checkpoints", grid=(9, 8), states=3, traversals=(COLUMNS_REVERSED,)),
    _sample("wide", channels=37, states=3),
    _sample("empty-batch", batch=0),
    _sample("channels-last", layout=channels_last, channels=17, batch=2),
    _sample(
        "channels-last-3d", layout=channels_last, traversals=CROSS_3D[4:], grid=(2, 2, 3), rank=2
    ),
    _sample("transposed-grid", layout=transposed_grid, traversals=CROSS_2D[2:]),
    _sample("odd-strides", layout=windows, rank=2, batch=2),
    _sample("stack", layout=windows, merge="stack", batch=2),
    _sample(
        "stack-3d", layout=windows, merge="stack", traversals=CROSS_3D[3:5], grid=(3, 2, 2),
        rank=2, extras="",
    ),
)  # fmt: skip


BAD_INPUTS = (
    BadInput("x-rank", with_(x=lambda v: v[0, 0]), ValueError, r"x has shape \(2, 3\); expected"),
    BadInput(
        "x-4d-grid", with_(x=torch.ones(1, 1, 2, 2, 2, 2)), ValueError, "x has shape .*1 to 3"
    ),
    BadInput("x-no-points", with_(x=lambda v: v[..., :0]), ValueError, "x has shape .*axis of the"),
    BadInput("x-integer", with_(x=lambda v: v.long()), ValueError, "x has dtype torch.int64"),
    BadInput("x-not-tensor", with_(x=1.0), TypeError, "x is of type float; expected a Tensor"),
    BadInput("x-channels", with_(x=lambda v: v[:, 1:]), ValueError, r"A has shape .* \(2, 2, N"),
    BadInput(
        "grids-differ",
        with_(delta=lambda v: v.transpose(-1, -2)),
        ValueError,
        r"delta has shape \(1, 2, 2, 3, 2\); expected \(B, K, R, \*grid\) = \(1, 2, 2, 2, 3\)",
    ),
    BadInput("delta-none", with_(delta=None), TypeError, "delta is of type NoneType"),
    BadInput("delta-dtype", with_(delta=lambda v: v.half()), ValueError, "delta has dtype"),
    BadInput(
        "delta-channels", with_(delta_weight=None), ValueError, r"delta has .*\(B, K, D, \*grid\)"
    ),
    BadInput("A-rank", with_(A=lambda v: v[0]), ValueError, r"A has shape .*expected \(K, D, N\)"),
    BadInput("A-no-states", with_(A=lambda v: v[..., :0]), ValueError, "A has shape .*N >= 1"),
    BadInput(
        "A-complex", with_(A=lambda v: v.to(torch.complex64)), ValueError, "A has dtype .*complex64"
    ),
    BadInput("B-states", with_(B=lambda v: v[:, :, 1:]), ValueError, r"B has .*\(B, K, N, \*grid"),
    BadInput("B-dtype", with_(B=lambda v: v.double()), ValueError, "B has dtype torch.float64"),
    BadInput("C-traversals", with_(C=lambda v: v[:, 1:]), ValueError, r"C has .*\(B, K, N, \*grid"),
    BadInput("C-device", with_(C=lambda v: v.to("meta")), ValueError, "C is on meta; expected cpu"),
    BadInput(
        "D-shape", with_(D=lambda v: v[0]), ValueError, r"D has shape \(3,\); expected \(K, D"
    ),
    BadInput("D-dtype", with_(D=lambda v: v.double()), ValueError, "D has dtype torch.float64"),
    BadInput("bias", with_(delta_bias=lambda v: v[1:]), ValueError, "delta_bias has shape"),
    BadInput(
        "weight-traversals",
        with_(delta_weight=lambda v: v[1:]),
        ValueError,
        r"delta_weight has shape \(1, 3, 2\); expected \(K, D, R\) = \(2, 3, R >= 1\)",
    ),
    BadInput(
        "weight-rank",
        with_(delta_weight=lambda v: v[..., 1:]),
        ValueError,
        r"delta has shape .*\(B, K, R, \*grid\) = \(1, 2, 1, 2, 3\)",
    ),
    BadInput(
        "channels-do-not-match-K",
        with_(traversals=CROSS_2D[:3]),
        ValueError,
        r"A has shape \(2, 3, 4\); expected \(K, D, N\) = \(3, 3, N >= 1\) for 3 traversals",
    ),
    BadInput("no-traversal", with_(traversals=()), ValueError, "traversals is empty"),
    BadInput("not-a-sequence", with_(traversals="hw"), TypeError, "traversals is of type str"),
    BadInput(
        "not-a-traversal",
        with_(traversals=(ROWS, (0, 1))),
        TypeError,
        r"traversals\[1\] is \(0, 1\); expected Traversal",
    ),
    BadInput(
        "axis-twice",
        with_(traversals=(ROWS, Traversal((1, 1)))),
        ValueError,
        r"traversals\[1\] has axes \(1, 1\); expected every axis of the grid once",
    ),
    BadInput(
        "no-axis",
        with_(traversals=(Traversal(()), ROWS)),
        ValueError,
        r"traversals\[0\] has axes \(\); expected every axis of the grid once",
    ),
    BadInput(
        "axis-missing",
        with_(traversals=(Traversal((1,)), ROWS)),
        ValueError,
        r"traversals\[0\] has axes \(1,\); expected every axis of the grid once",
    ),
    BadInput(
        "other-grid",
        with_(traversals=CROSS_3D[:2]),
        ValueError,
        r"traversals\[0\] has axes \(0, 1, 2\); expected an order of the 2 axes of the grid",
    ),
    BadInput("softplus", with_(delta_softplus=1), TypeError, "delta_softplus is 1"),
    BadInput(
        "merge", with_(merge="mean"), ValueError, "merge is 'mean'; expected 'sum' or 'stack'"
    ),
    BadInput("backend", with_(backend="cudnn"), ValueError, "backend is 'cudnn'; expected one of"),
)

# D channels of each of the K = 4 traversals of a square grid of L points; R the rank of delta
_LEVELS = tuple(  # of MambaNO at E = 16 on 64x64
    dict(D=D, L=L, N=16, K=4, R=R)
    for D, L, R in ((32, 4096, 1), (64, 1024, 2), (128, 256, 4), (256, 64, 8))
)
_FIELD = dict(B=1, D=32, N=16, K=4, R=1)
BENCH_SHAPES = (
    *(
        BenchShape(f"mambano-64-level{i}-b4", dict(B=4) | level, quick=i in (1, 4))
        for i, level in enumerate(_LEVELS, 1)
    ),
    *(BenchShape(f"mambano-64-level{i}", dict(B=16) | level) for i, level in enumerate(_LEVELS, 1)),
    BenchShape("mambano-airfoil-level1", _FIELD | dict(B=8, L=128 * 128)),
    BenchShape("field-256", _FIELD | dict(L=256 * 256)),
    BenchShape("field-256-bf16", _FIELD | dict(L=256 * 256), torch.bfloat16),
    BenchShape("field-512", _FIELD | dict(L=512 * 512)),
    BenchShape("vmamba-t-v0", dict(B=8, D=192, L=56 * 56, N=16, K=4, R=6), torch.bfloat16),
    BenchShape("vmamba-t-v2", dict(B=8, D=192, L=56 * 56, N=1, K=4, R=6), torch.bfloat16),
)

CORE = ("all", "3d-subset", "stack")

SPEC = Spec("cross_selective_scan", cross_selective_scan, SAMPLES, CORE, BAD_INPUTS, BENCH_SHAPES)
