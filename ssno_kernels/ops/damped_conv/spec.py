# SPDX-License-Identifier: MIT
"""The table of `damped_conv`: samples, bad inputs, shapes to time."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..spec import BadInput, BenchShape, Inputs, Spec, sampler, windows, with_
from . import damped_conv
from .arguments import state_dtype


def make_inputs(
    dtype: torch.dtype,
    *,
    batch: int = 2,
    channels: int = 3,
    grid: tuple[int, ...] = (37,),
    states: int = 4,
    per_sweep: str = "",
    step: str = "channel",
    parameters: torch.dtype | None = None,
    extras: str = "D state",
    seed: int = 0,
    **options: Any,
) -> Inputs:
    """Random inputs whose modes remember from one to some tens of samples.

    `per_sweep` names the parameters with a leading axis of 2, `parameters` is the dtype of damping,
    frequency and step (else the state's), `options` go to the function.
    """
    generator = torch.Generator().manual_seed(seed)
    real = state_dtype(dtype)

    def normal(*shape: int, dtype: torch.dtype = dtype) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    def cmplx(*shape: int) -> Tensor:
        return torch.complex(normal(*shape, dtype=real), normal(*shape, dtype=real))

    def shape_of(name: str) -> tuple[int, ...]:
        return (*([2] if name in per_sweep.split() else []), channels, states)

    both = options.get("direction", "both") == "both"
    others = list(grid)
    del others[options.get("dim", -1) - (2 if options.get("dim", -1) >= 0 else 0)]
    own = parameters or real
    inputs: Inputs = {
        "u": normal(batch, channels, *grid),
        "damping": torch.exp(normal(*shape_of("damping"), dtype=torch.float64) - 2).to(own),
        "frequency": normal(*shape_of("frequency"), dtype=own),
        "coeff": cmplx(*shape_of("coeff")) / states**0.5,
    }
    if step != "none":
        spread = torch.rand(channels if step == "channel" else (), generator=generator)
        inputs["step"] = (0.6 + spread.double()).to(own)
    if "D" in extras.split():
        inputs["D"] = normal(channels, dtype=real)
    if "state" in extras.split():
        inputs["return_final_state"] = True
        if options.get("boundary") != "periodic":
            inputs["initial_state"] = cmplx(*[2] * both, batch, channels, *others, states)
    return inputs | options


def channels_last(inputs: Inputs) -> Inputs:
    """u and the initial state with their channels fastest."""
    state = inputs.get("initial_state")
    axis = 2 if inputs.get("direction", "both") == "both" else 1

    def change(x: Tensor, axis: int) -> Tensor:
        return x.movedim(axis, -1).contiguous().movedim(-1, axis)

    changed = {"u": change(inputs["u"], 1)}
    return inputs | changed | ({} if state is None else {"initial_state": change(state, axis)})


def _expanded(inputs: Inputs) -> Inputs:
    """One channel's parameters for all, one line for all columns of the grid."""
    changed = {k: inputs[k][..., :1, :].expand_as(inputs[k]) for k in ("damping", "coeff")}
    return inputs | changed | {"u": inputs["u"][:, :, :1].expand_as(inputs["u"])}


odd_strides = partial(windows, expanded="u")
_sample = sampler(partial(make_inputs, channels=2))
EVERY = "damping frequency coeff"
SAMPLES = (
    _sample("all", channels=3, per_sweep=EVERY),
    _sample("plain", extras="", step="none"),
    _sample("forward", direction="forward"),
    _sample("backward", direction="backward", step="scalar"),
    _sample("both-shared", grid=(33,), batch=1),
    _sample("both-coeff", grid=(16,), per_sweep="coeff", extras="D"),
    _sample("both-damping", grid=(17,), per_sweep="damping", extras="state"),
    _sample("periodic", grid=(40,), per_sweep=EVERY, boundary="periodic"),
    _sample("periodic-forward", grid=(5, 21), direction="forward", boundary="periodic"),
    _sample("periodic-backward", grid=(65,), direction="backward", boundary="periodic", extras=""),
    _sample("rows", grid=(3, 18), per_sweep="frequency"),
    _sample("columns", grid=(18, 5), dim=2),
    _sample("columns-periodic", grid=(9, 6), dim=-2, boundary="periodic", step="scalar"),
    _sample("cube-first", grid=(7, 2, 3), dim=2, per_sweep=EVERY),
    _sample("cube-middle", grid=(2, 11, 3), dim=-2, direction="backward"),
    _sample("cube-last-periodic", grid=(2, 2, 8), boundary="periodic", extras="D"),
    _sample("length-1", grid=(1,)),
    _sample("length-1-periodic", grid=(2, 1), boundary="periodic"),
    _sample("length-2", grid=(2,), per_sweep=EVERY),
    _sample("length-4-frames", grid=(4, 6), dim=2, direction="forward", states=6),
    _sample("many-chunks", grid=(301,), batch=1, channels=2, states=3),
    _sample("many-chunks-periodic", grid=(259,), batch=1, channels=1, boundary="periodic"),
    _sample("one-state", batch=1, channels=3, states=1),
    _sample("many-states", grid=(19,), batch=1, channels=2, states=33),
    _sample("wide", grid=(6,), batch=3, channels=5, states=2),
    _sample("many-lines", grid=(5, 7, 9), dim=2, batch=1, channels=1, extras="D"),
    _sample("double-parameters", parameters=torch.float64, grid=(12,)),
    _sample("empty-batch", batch=0),
    _sample("channels-last", layout=channels_last, channels=3, grid=(20,)),
    _sample("channels-last-2d", layout=channels_last, grid=(6, 9), dim=2),
    _sample("odd-strides", layout=odd_strides, grid=(4, 15), per_sweep=EVERY),
    _sample("odd-strides-columns", layout=odd_strides, grid=(15, 4), dim=2, direction="forward"),
    _sample("expanded", layout=_expanded, grid=(3, 13), boundary="periodic"),
)


def _bad(name: str, match: str, error: type[Exception] = ValueError, **changes: Any) -> BadInput:
    return BadInput(name, with_(**changes), error, match)


PERIODIC: Inputs = {"boundary": "periodic", "initial_state": None}
BAD_INPUTS = (
    _bad("u-rank", r"u has shape \(3, 37\); expected \(B, H", u=lambda x: x[0]),
    _bad("u-no-length", "u has shape .*L = shape.2. >= 1", u=lambda x: x[..., :0]),
    _bad("u-no-channels", "u has shape .*H >= 1", u=lambda x: x[:, :0]),
    _bad("u-integer", "u has dtype torch.int64; expected torch.float64 or", u=lambda x: x.long()),
    _bad("u-complex", "u has dtype torch.complex64", u=lambda x: x.cfloat()),
    _bad("u-not-tensor", "u is of type list; expected a Tensor", TypeError, u=[1.0]),
    _bad("damping-negative", "damping has the negative value -0.5", damping=lambda x: x * 0 - 0.5),
    _bad("damping-rank", r"damping has shape \(4,\); expected \(H, N", damping=lambda x: x[0, 0]),
    _bad("damping-channels", r"damping has shape \(2, 2, 4\)", damping=lambda x: x[:, 1:]),
    _bad("damping-sweeps", r"damping has shape \(1, 3, 4\); .*\(2, H", damping=lambda x: x[:1]),
    _bad("damping-no-states", "damping has shape .*N >= 1", damping=lambda x: x[..., :0]),
    _bad("damping-dtype", "damping has dtype torch.bfloat16", damping=lambda x: x.bfloat16()),
    _bad(
        "damping-0-periodic",
        "damping has the value 0; expected > 0 with boundary='periodic'",
        damping=lambda x: x * 0,
        **PERIODIC,
    ),
    _bad(
        "damping-two-sweeps-of-one",
        r"damping has shape \(2, 3, 4\); expected \(H, N\) = \(3, 4\), since only",
        direction="forward",
    ),
    _bad("frequency-states", r"frequency has shape \(2, 3, 3\)", frequency=lambda x: x[..., 1:]),
    _bad("frequency-number", "frequency is of type float", TypeError, frequency=1.0),
    _bad("frequency-complex", "frequency has dtype torch.co", frequency=lambda x: x.cfloat()),
    _bad("coeff-real", "coeff has dtype torch.float32; .*complex64", coeff=lambda x: x.real),
    _bad("coeff-double", "coeff has dtype torch.complex128", coeff=lambda x: x.cdouble()),
    _bad("coeff-shape", r"coeff has shape \(3, 4, 2\)", coeff=lambda x: x.movedim(0, -1)),
    _bad("D-size", r"D has shape \(2,\); expected \(H,\) = \(3,\)", D=lambda x: x[1:]),
    _bad("D-dtype", "D has dtype torch.float64", D=lambda x: x.double()),
    _bad("step-0", "step is 0; expected > 0", step=0),
    _bad("step-negative", "step has the value -1; expected > 0", step=torch.tensor(-1.0)),
    _bad("step-size", r"step has shape \(2,\); expected \(\) or \(H,\)", step=lambda x: x[1:]),
    _bad("step-bool", "step is of type bool; expected a number", TypeError, step=True),
    _bad("step-integers", "step has dtype torch.int64", step=lambda x: x.long() + 1),
    _bad("direction", "direction is 'left'; expected one of 'forward', 'ba", direction="left"),
    _bad("direction-type", "direction is 1; expected one of", TypeError, direction=1),
    _bad("boundary", "boundary is 'mirror'; expected one of 'zero', 'pe", boundary="mirror"),
    _bad("dim-channels", r"dim is 1; expected a grid axis of u \(2, 3, 37\): 2 to 2 or", dim=1),
    _bad("dim-beyond", "dim is -2; expected a grid axis", dim=-2),
    _bad("dim-type", "dim is '2'; expected an int", TypeError, dim="2"),
    _bad(
        "initial-state-states",
        r"initial_state has shape .*expected \(2, B, H, \*grid without dim, N\) = \(2, 2, 3, 4\)",
        initial_state=lambda x: x[..., 1:],
    ),
    _bad("initial-state-one-sweep", "initial_state has shape", initial_state=lambda x: x[0]),
    _bad("initial-state-real", "initial_state has dtype", initial_state=lambda x: x.real),
    _bad("initial-state-periodic", "initial_state is given with bound", boundary="periodic"),
    _bad("final-state-type", "return_final_state is 1", TypeError, return_final_state=1),
    _bad("device", "D is on meta; expected cpu", D=lambda x: x.to("meta")),
    _bad("backend", "backend is 'cudnn'; expected one of", backend="cudnn"),
)


def _shape(
    name: str, dtype: torch.dtype = torch.float32, quick: bool = False, **sizes: int
) -> BenchShape:
    """B counts all lines of a channel: `rows` of them for each batch; S is the number of sweeps."""
    return BenchShape(name, {"rows": 1, "dim": 2, "S": 2, "D": 64, "N": 32} | sizes, dtype, quick)


BENCH_SHAPES = (
    _shape("ssno-1d-32", B=128, L=32, quick=True),
    _shape("ssno-1d-128", B=128, L=128),
    _shape("ssno-1d-512-b64", B=64, L=512, quick=True),
    _shape("ssno-1d-512", B=128, L=512),
    _shape("ssno-1d-512-cheap", B=128, L=512, N=8, quick=True),
    _shape("ssno-1d-512-bf16", torch.bfloat16, B=128, L=512),
    _shape("ssno-2d-64-columns", B=2048, rows=64, L=64, quick=True),
    _shape("ssno-2d-64-rows", B=2048, rows=64, L=64, dim=3, quick=True),
    _shape("ssno-2d-128-columns", B=2048, rows=128, L=128),
    _shape("line-4096", B=8, L=4096, quick=True),
    _shape("ssno-memory", B=32768, rows=4096, L=4, S=1, quick=True),
    _shape("line-16384", B=2, L=16384),
    _shape("line-65536", B=1, L=65536, quick=True),
    _shape("line-262144", B=1, L=262144),
)

CORE = ("all", "columns-periodic", "cube-middle")

SPEC = Spec("damped_conv", damped_conv, SAMPLES, CORE, BAD_INPUTS, BENCH_SHAPES)
