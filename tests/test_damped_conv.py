# SPDX-License-Identifier: MIT
"""Properties of `damped_conv` itself, on every backend, in float64 unless said otherwise."""

from __future__ import annotations

import harness
import pytest
import torch
import torch._dynamo.testing
from hypothesis import given
from hypothesis import strategies as st

from ssno_kernels import damped_conv, registry
from ssno_kernels.ops.damped_conv.spec import EVERY, SPEC, make_inputs

BACKENDS = harness.compared(SPEC)
KERNELS = [b for b in BACKENDS if b != "composite"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
# Triton's interpreter takes seconds for an example, and is left to the table of samples
each_quick_backend = pytest.mark.parametrize(
    "backend", [b for b in BACKENDS if b != "triton" or not registry.interpreting()]
)
TINY = 1e-12

directions = st.sampled_from(["forward", "backward", "both"])
boundaries = st.sampled_from(["zero", "periodic"])
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "channels": st.sampled_from([1, 2, 5]),
        "grid": st.one_of(
            st.tuples(st.integers(1, 80)), st.tuples(st.integers(1, 3), st.integers(1, 40))
        ),
        "states": st.integers(1, 6),
        "step": st.sampled_from(["none", "scalar", "channel"]),
        "seed": st.integers(0, 1000),
    }
)
property_of_few = harness.property_of(8)


def inputs_on(backend: str, dtype: torch.dtype = torch.float64, **sizes) -> dict:
    return harness.to_device(make_inputs(dtype, **sizes), harness.need(SPEC.name, backend))


def run(backend: str, inputs: dict):
    return damped_conv(**inputs, backend=backend)


def assert_same(value: torch.Tensor, expected: torch.Tensor, bound: float = TINY) -> None:
    assert expected.norm() > 0, "two zeros are no evidence"
    assert harness.relative_error(value, expected) < bound


@each_quick_backend
@property_of_few
@given(sizes=sizes, direction=directions, boundary=boundaries, a=st.floats(-2, 2))
def test_linear_in_input_and_state(backend, sizes, direction, boundary, a):
    options = {"direction": direction, "boundary": boundary}
    x = inputs_on(backend, **sizes, **options)
    y = inputs_on(backend, **(sizes | {"seed": 2000}), **options)
    linear = [k for k in ("u", "initial_state") if k in x]
    y = x | {k: y[k] for k in linear}
    mixed = x | {k: a * x[k] + 0.7 * y[k] for k in linear}
    for whole, first, second in zip(*(run(backend, i) for i in (mixed, x, y)), strict=True):
        assert_same(whole, a * first + 0.7 * second)


@each_quick_backend
@property_of_few
@given(sizes=sizes, direction=directions, boundary=boundaries)
def test_reversal_is_flip_run_flip(backend, sizes, direction, boundary):
    """A sweep turned round; for `both`, its two sweeps change places."""
    inputs = inputs_on(
        backend,
        **sizes,
        direction=direction,
        boundary=boundary,
        per_sweep=EVERY if direction == "both" else "",
    )
    other = inputs | {"u": inputs["u"].flip(-1)}
    if direction == "both":
        swapped = [k for k in (*EVERY.split(), "initial_state") if k in inputs]
        other |= {k: inputs[k].flip(0) for k in swapped}
    else:
        other["direction"] = {"forward": "backward", "backward": "forward"}[direction]
    out, state = run(backend, inputs)
    out_other, state_other = run(backend, other)
    assert_same(out_other.flip(-1), out)
    assert_same(state_other.flip(0) if direction == "both" else state_other, state)


@each_quick_backend
@property_of_few
@given(sizes=sizes, direction=st.sampled_from(["forward", "backward"]), where=st.floats(0.05, 0.95))
def test_split_sequence_with_carried_state_is_the_whole(backend, sizes, direction, where):
    """Outputs, final state, and the gradients through the state that is carried over."""
    sizes = sizes | {"grid": (*sizes["grid"][:-1], sizes["grid"][-1] + 1)}
    inputs = inputs_on(backend, **sizes, direction=direction)
    leaves = {k: x.requires_grad_() for k, x in harness.tensors(inputs).items()}
    out, state = run(backend, inputs)
    length = out.shape[-1]
    cut = min(length - 1, 1 + int(where * (length - 1)))
    pieces = list(inputs["u"].split([cut, length - cut], dim=-1))
    if direction == "backward":
        pieces.reverse()
    carried, parts = inputs["initial_state"], []
    for piece in pieces:
        part, carried = run(backend, inputs | {"u": piece, "initial_state": carried})
        parts.append(part)
    joined = torch.cat(parts if direction == "forward" else parts[::-1], dim=-1)
    assert_same(joined, out)
    assert_same(carried, state)
    cotangents = [v.to(out.device) for v in harness.cotangents_for((out, state))]
    whole = torch.autograd.grad((out, state), leaves.values(), cotangents)
    split = torch.autograd.grad((joined, carried), leaves.values(), cotangents)
    for name, v, expected in zip(leaves, split, whole, strict=True):
        assert harness.relative_error(v, expected) < TINY, name


@each_quick_backend
@property_of_few
@given(sizes=sizes, direction=directions, shift=st.integers(1, 100))
def test_periodic_commutes_with_every_shift(backend, sizes, direction, shift):
    inputs = inputs_on(backend, **sizes, direction=direction, boundary="periodic", extras="D")
    rolled = run(backend, inputs | {"u": inputs["u"].roll(shift, -1)})
    assert_same(rolled, run(backend, inputs).roll(shift, -1))


@each_backend
def test_periodic_commutes_in_float32(backend):
    inputs = inputs_on(backend, torch.float32, grid=(96,), boundary="periodic", extras="D")
    rolled = run(backend, inputs | {"u": inputs["u"].roll(37, -1)})
    assert_same(rolled, run(backend, inputs).roll(37, -1), 1e-6)


@each_backend
@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_periodic_is_the_limit_of_many_periods(backend, direction):
    """The middle one of seven periods, where the rest is forgotten; and the steady state."""
    inputs = inputs_on(backend, grid=(12,), direction=direction, boundary="periodic")
    inputs["damping"] = inputs["damping"] + 2
    out, state = run(backend, inputs)
    repeated = inputs | {"u": inputs["u"].repeat(1, 1, 7), "boundary": "zero"}
    many, last = run(backend, repeated)
    assert_same(many[..., 36:48], out)
    assert_same(last, state)


@each_quick_backend
@property_of_few
@given(
    grid=st.tuples(st.integers(1, 18), st.integers(1, 5), st.integers(1, 18)),
    dim=st.integers(-3, -1),
    direction=directions,
    boundary=boundaries,
)
def test_dim_is_movedim_and_run(backend, grid, dim, direction, boundary):
    inputs = inputs_on(backend, batch=1, grid=grid, dim=dim, direction=direction, boundary=boundary)
    out, state = run(backend, inputs)
    moved = inputs | {"u": inputs["u"].movedim(dim, -1).contiguous(), "dim": -1}
    out_moved, state_moved = run(backend, moved)
    assert_same(out, out_moved.movedim(-1, dim))
    assert_same(state, state_moved)


@each_quick_backend
@property_of_few
@given(sizes=sizes, direction=directions, boundary=boundaries, factor=st.integers(2, 4))
def test_finer_step_is_the_same_convolution(backend, sizes, direction, boundary, factor):
    """u on every factor-th point of a grid as much finer: the same at those points."""
    inputs = inputs_on(
        backend, **(sizes | {"step": "channel"}), direction=direction, boundary=boundary, extras="D"
    )
    u = inputs["u"]
    spread = u.new_zeros(*u.shape, factor)
    spread[..., 0] = u
    fine = run(backend, inputs | {"u": spread.flatten(-2), "step": inputs["step"] / factor})
    assert_same(fine[..., ::factor], run(backend, inputs))


@each_backend
def test_every_length(backend):
    """Around every multiple of 16 or 32 that a chunk may have, in both directions at once."""
    for length in (2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 47, 63, 64, 65, 127, 128, 129):
        inputs = inputs_on(backend, batch=1, channels=1, grid=(length,), states=2)
        expected, _ = harness.truth(SPEC, harness.to_device(inputs, "cpu"), gradients=False)
        harness.assert_close(harness.run(SPEC, inputs, backend), expected, TINY)


@each_backend
def test_nothing_damped_and_nothing_kept(backend):
    """lambda = 1 sums up; lambda = 0 leaves lag 0."""
    inputs = inputs_on(backend, direction="forward", extras="", grid=(70,), step="none")
    weight = 2 * inputs["coeff"].real.sum(-1)[:, None]
    still = {k: torch.zeros_like(inputs[k]) for k in ("damping", "frequency")}
    assert_same(run(backend, inputs | still), weight * inputs["u"].cumsum(-1))
    at_once = inputs | {"damping": torch.full_like(inputs["damping"], 1e4)}
    assert_same(run(backend, at_once), weight * inputs["u"])


@each_backend
def test_infinite_damping_leaves_lag_0(backend):
    inputs = inputs_on(backend, grid=(21,), extras="D", step="none")
    inputs["damping"][1] = float("inf")
    expected, cotangents = harness.truth(SPEC, inputs)
    results = harness.run(SPEC, inputs, backend, cotangents)
    harness.assert_close(results, expected, TINY)
    weight = inputs["D"][1] + 4 * inputs["coeff"][1].real.sum()  # of two sweeps
    assert_same(results["out0"][:, 1], weight * inputs["u"][:, 1])
    assert not results["v_damping"][1].any()


@each_backend
@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_nan_stays_where_it_belongs(backend, boundary):
    """In a mode: its channel, all of it; in u: its line."""
    inputs = inputs_on(
        backend, torch.float32, grid=(35, 2), dim=2, per_sweep=EVERY, boundary=boundary
    )
    clean, _ = run(backend, inputs)
    for name in ("damping", "frequency", "coeff"):
        x = inputs[name].clone()
        x[..., 1, 2] = float("nan")
        out, _ = run(backend, inputs | {name: x})
        assert out[:, 1].isnan().all()
        assert torch.equal(out[:, 0], clean[:, 0]) and torch.equal(out[:, 2:], clean[:, 2:])
    u = inputs["u"].clone()
    u[1, 1, 20, 1] = float("nan")
    out, _ = run(backend, inputs | {"u": u})
    spoiled = torch.zeros_like(out, dtype=torch.bool)
    spoiled[1, 1, :, 1] = True
    assert out[1, 1, 20, 1].isnan()
    assert torch.equal(out[~spoiled], clean[~spoiled])
