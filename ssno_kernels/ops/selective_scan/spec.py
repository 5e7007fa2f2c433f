# SPDX-License-Identifier: MIT
"""The table of `selective_scan`: samples, bad inputs, shapes to time."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ..spec import BadInput, BenchShape, Inputs, Spec, sampler, windows, with_
from . import selective_scan
from .arguments import state_dtype


def make_inputs(
    dtype: torch.dtype,
    *,
    batch: int = 2,
    channels: int = 6,
    length: int = 21,
    states: int = 5,
    kind_B: str = "variable",
    kind_C: str = "variable",
    groups: int = 2,
    is_complex: bool = False,
    rank: int = 0,
    extras: str = "D z delta_bias initial_state",
    seed: int = 0,
    **options: bool,
) -> Inputs:
    """Random inputs on a scale where the states neither die at once nor grow."""
    generator = torch.Generator().manual_seed(seed)
    real = state_dtype(dtype)
    parts = 2 if is_complex else 1

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def complex_or_real(*shape: int) -> Tensor:
        x = normal(*shape, dtype=real)
        return torch.complex(x, normal(*shape, dtype=real)) if is_complex else x

    def projection(kind: str) -> Tensor:
        if kind == "constant":
            return complex_or_real(channels, states)
        grouped = (groups,) if kind == "grouped" else ()
        return normal(batch, *grouped, states, parts * length)

    decay = -torch.rand(channels, states, generator=generator, dtype=torch.float64).to(real) - 0.05
    inputs: Inputs = {
        "u": normal(batch, channels, length),
        "delta": (0.5 * normal(batch, rank or channels, length)).abs(),
        "A": torch.complex(decay, 3 * normal(channels, states, dtype=real))
        if is_complex
        else decay,
        "B": projection(kind_B),
        "C": projection(kind_C),
    }
    if "D" in extras.split():
        inputs["D"] = normal(channels, dtype=real)
    if "z" in extras.split():
        inputs["z"] = normal(batch, channels, length)
    if "delta_bias" in extras.split():
        inputs["delta_bias"] = normal(channels, dtype=real) - 1
        inputs["delta_softplus"] = True
    if "initial_state" in extras.split():
        inputs["initial_state"] = complex_or_real(batch, channels, states)
        inputs["return_final_state"] = True
    if rank:
        inputs["delta_weight"] = normal(channels, rank, dtype=real).abs() / rank
    return inputs | options


def channels_last(inputs: Inputs) -> Inputs:
    """u, delta, z, B, C with the time axis slowest but for the batch, as (B, L, D) models have."""

    def change(x: object) -> object:
        if not isinstance(x, Tensor) or x.dim() < 3:
            return x
        return x.transpose(-1, -2).contiguous().transpose(-1, -2)

    return {k: x if k == "initial_state" else change(x) for k, x in inputs.items()}


odd_strides = partial(windows, expanded="u")
_sample = sampler(make_inputs)
SAMPLES = (
    _sample("plain", extras=""),
    _sample("all", extras="D z delta_bias initial_state"),
    _sample("mamba", channels=20, length=70, states=16, extras="D z delta_bias"),
    _sample("reverse", reverse=True),
    _sample("grouped", kind_B="grouped", kind_C="grouped"),
    _sample("grouped-B-only", kind_B="grouped", groups=3),
    _sample("constant", kind_B="constant", kind_C="constant"),
    _sample("constant-C", kind_C="constant", extras="D", reverse=True),
    _sample("low-rank", rank=3),
    _sample("low-rank-reverse", rank=2, kind_B="grouped", reverse=True, extras="z delta_bias"),
    _sample("complex", is_complex=True),
    _sample("complex-grouped-reverse", is_complex=True, kind_B="grouped", reverse=True),
    _sample("complex-constant", is_complex=True, kind_B="constant", kind_C="constant"),
    _sample("complex-low-rank", is_complex=True, kind_C="constant", rank=4, extras="D"),
    _sample("length-1", length=1),
    _sample("length-2-reverse", length=2, reverse=True, extras="initial_state"),
    _sample("one-channel", batch=1, channels=1, length=300, states=3),
    _sample("one-state", batch=1, channels=18, states=1),
    _sample("many-states", batch=1, channels=3, length=5, states=70),
    _sample("past-checkpoints", batch=1, channels=5, length=210, states=17, reverse=True),
    _sample("wide", batch=1, channels=37, length=20, states=4),
    _sample("empty-batch", batch=0),
    _sample("channels-last", layout=channels_last, channels=17),
    _sample("channels-last-low-rank", layout=channels_last, rank=3, reverse=True),
    _sample("odd-strides", layout=odd_strides),
    _sample("odd-strides-complex", layout=odd_strides, is_complex=True, kind_C="grouped"),
)


BAD_INPUTS = (
    BadInput("u-rank", with_(u=lambda x: x[0]), ValueError, r"u has shape \(6, 21\); expected \(B"),
    BadInput("u-no-length", with_(u=lambda x: x[..., :0]), ValueError, "u has shape .*L >= 1"),
    BadInput("u-integer", with_(u=lambda x: x.long()), ValueError, "u has dtype torch.int64"),
    BadInput("u-complex", with_(u=lambda x: x.cfloat()), ValueError, "u has dtype torch.complex64"),
    BadInput("u-not-tensor", with_(u=[1.0]), TypeError, "u is of type list; expected a Tensor"),
    BadInput("delta-length", with_(delta=lambda x: x[..., 1:]), ValueError, r"delta has shape \(2"),
    BadInput("delta-none", with_(delta=None), TypeError, "delta is of type NoneType"),
    BadInput("A-rank", with_(A=lambda x: x[0]), ValueError, r"A has shape \(5,\); expected \(D, N"),
    BadInput("A-channels", with_(A=lambda x: x[1:]), ValueError, r"A has shape \(5, 5\); expected"),
    BadInput("A-no-states", with_(A=lambda x: x[:, :0]), ValueError, "A has shape .*N >= 1"),
    BadInput("B-states", with_(B=lambda x: x[:, 1:]), ValueError, r"B has shape .*\(B, N, L\)"),
    BadInput("B-rank", with_(B=lambda x: x[0, 0]), ValueError, "B has shape .*expected .D, N."),
    BadInput(
        "B-groups",
        with_(B=lambda x: x[:, None].expand(-1, 4, -1, -1)),
        ValueError,
        "B has 4 groups; expected a divisor of D = 6",
    ),
    BadInput("C-length", with_(C=lambda x: x[..., 1:]), ValueError, r"C has shape .*\(B, N, L\)"),
    BadInput("C-dtype", with_(C=lambda x: x.half()), ValueError, "C has dtype torch.float16"),
    BadInput(
        "C-complex",
        with_(C=lambda x: x[0, :, :6].T.to(torch.complex64)),
        ValueError,
        "C has dtype torch.complex64; expected torch.float32",
    ),
    BadInput(
        "complex-A-short-B",
        with_(A=lambda x: x.to(torch.complex64)),
        ValueError,
        r"B has shape .*expected \(B, N, 2 L\)",
    ),
    BadInput("D-size", with_(D=lambda x: x[1:]), ValueError, r"D has shape \(5,\); expected \(D,"),
    BadInput("D-dtype", with_(D=lambda x: x.double()), ValueError, "D has dtype torch.float64"),
    BadInput("z-shape", with_(z=lambda x: x[:1]), ValueError, "z has shape .*expected .B, D, L"),
    BadInput("z-dtype", with_(z=lambda x: x.bfloat16()), ValueError, "z has dtype torch.bfloat16"),
    BadInput("bias-size", with_(delta_bias=lambda x: x[None]), ValueError, "delta_bias has shape"),
    BadInput(
        "delta-weight-channels",
        with_(delta_weight=torch.ones(5, 6)),
        ValueError,
        r"delta_weight has shape \(5, 6\); expected \(D, R\)",
    ),
    BadInput(
        "delta-weight-rank",
        with_(delta_weight=torch.ones(6, 4)),
        ValueError,
        r"delta has shape .*\(B, R, L\) = \(2, 4, 21\)",
    ),
    BadInput(
        "initial-state-shape",
        with_(initial_state=lambda x: x[..., 1:]),
        ValueError,
        r"initial_state has shape .*expected \(B, D, N\) = \(2, 6, 5\)",
    ),
    BadInput(
        "initial-state-complex",
        with_(initial_state=lambda x: x.to(torch.complex64)),
        ValueError,
        "initial_state has dtype torch.complex64",
    ),
    BadInput("device", with_(z=lambda x: x.to("meta")), ValueError, "z is on meta; expected cpu"),
    BadInput("softplus", with_(delta_softplus=1), TypeError, "delta_softplus is 1"),
    BadInput(
        "reverse", with_(reverse="yes"), TypeError, "reverse is 'yes'; expected True or False"
    ),
    BadInput("backend", with_(backend="cudnn"), ValueError, "backend is 'cudnn'; expected one of"),
)

# D counts the channels of all K = G traversals of a layer, as the scan sees them.
BENCH_SHAPES = (
    BenchShape("mambano-64-level1-b4", dict(B=4, D=128, L=4096, N=16, G=4), quick=True),
    BenchShape("mambano-64-level2-b4", dict(B=4, D=256, L=1024, N=16, G=4), quick=True),
    BenchShape("mambano-64-level3-b4", dict(B=4, D=512, L=256, N=16, G=4), quick=True),
    BenchShape("mambano-64-level4-b4", dict(B=4, D=1024, L=64, N=16, G=4), quick=True),
    BenchShape("mambano-64-level1", dict(B=16, D=128, L=4096, N=16, G=4)),
    BenchShape("mambano-64-level2", dict(B=16, D=256, L=1024, N=16, G=4)),
    BenchShape("mambano-64-level3", dict(B=16, D=512, L=256, N=16, G=4)),
    BenchShape("mambano-64-level4", dict(B=16, D=1024, L=64, N=16, G=4)),
    BenchShape("mambano-airfoil-level1", dict(B=8, D=128, L=16384, N=16, G=4)),
    BenchShape("field-256", dict(B=1, D=128, L=65536, N=16, G=4), quick=True),
    BenchShape("field-256-bf16", dict(B=1, D=128, L=65536, N=16, G=4), torch.bfloat16),
    BenchShape("field-512", dict(B=1, D=128, L=262144, N=16, G=4)),
    BenchShape("long-narrow", dict(B=1, D=8, L=262144, N=16, G=1), quick=True),
    BenchShape("vmamba-t-v0", dict(B=8, D=768, L=3136, N=16, G=4), torch.bfloat16),
    BenchShape("vmamba-t-v2", dict(B=8, D=768, L=3136, N=1, G=4), torch.bfloat16, quick=True),
    BenchShape(
        "mamba-language",
        dict(B=1, D=1536, L=2048, N=16, G=1),
        torch.bfloat16,
        quick=True,
        gated=True,
    ),
    BenchShape("mamba-no-darcy", dict(B=8, D=384, L=4096, N=16, G=2)),
    BenchShape("large-state", dict(B=64, D=512, L=6, N=1024, G=1)),
)

CORE = ("all", "low-rank-reverse", "constant-C", "complex-grouped-reverse")

SPEC = Spec("selective_scan", selective_scan, SAMPLES, CORE, BAD_INPUTS, BENCH_SHAPES)
