# SPDX-License-Identifier: MIT
"""What only the cpu backend of `damped_conv` has: instruction sets, sweeps beside transforms."""

from __future__ import annotations

import harness
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssno_kernels.ops.damped_conv.spec import SPEC, channels_last, make_inputs, odd_strides

CPU = "cpu"
EVERY = "damping frequency coeff"

# Sizes at which the kernels take each of their ways; the composite in float64 is compared with.
WAYS = {
    "one-chunk": dict(grid=(31,), batch=5, extras="D"),
    "one-chunk-tile-and-a-bit": dict(grid=(7,), batch=37, channels=2, extras="D"),
    "chunks-and-states": dict(grid=(133,), batch=3),
    "segments": dict(grid=(1500,), batch=1, channels=1, per_sweep=EVERY),
    "segments-and-a-rest": dict(grid=(2077,), batch=2, channels=1, extras="D"),
    "segments-periodic": dict(grid=(1031,), batch=1, channels=2, boundary="periodic"),
    "many-rows-and-states": dict(grid=(97,), batch=35, channels=1, states=2, direction="backward"),
    "transforms": dict(grid=(128,), batch=18, channels=2, states=9, per_sweep=EVERY, extras="D"),
    "transforms-padded": dict(grid=(201,), batch=33, channels=1, states=16, extras="D"),
    "transforms-shared-out": dict(grid=(64,), batch=70, channels=1, states=8, extras=""),
    "transforms-forward": dict(grid=(100,), batch=16, channels=2, direction="forward", extras=""),
    "transforms-backward": dict(grid=(255,), batch=16, channels=1, direction="backward", extras=""),
    "transforms-periodic": dict(
        grid=(90, 3), batch=6, channels=2, dim=2, boundary="periodic", extras="D", per_sweep=EVERY
    ),
}


@pytest.fixture(params=("avx512", "avx2", "plain"))
def isa(request, monkeypatch):
    harness.need(SPEC.name, CPU)
    monkeypatch.setenv("SSNO_ISA", request.param)
    return request.param


def compare(inputs: dict, dtype: torch.dtype, needed=None) -> None:
    doubled = harness.in_float64(inputs)
    outputs = harness.as_tuple(SPEC.function(**doubled, backend="composite"))
    cotangents = harness.cotangents_for(outputs)
    cotangents = [c if c.is_complex() else c.to(dtype).to(c.dtype) for c in cotangents]
    expected = harness.run(SPEC, doubled, "composite", cotangents, needed)
    results = harness.run(SPEC, inputs, CPU, cotangents, needed)
    harness.assert_close(results, expected, SPEC.tolerances[dtype])


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_ways_of_every_instruction_set(isa, dtype, name):
    compare(make_inputs(dtype, **WAYS[name]), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["segments", "transforms-padded"])
def test_half_precision_of_every_instruction_set(isa, dtype, name):
    compare(make_inputs(dtype, **WAYS[name]), dtype)


@pytest.mark.parametrize("name", ["chunks-and-states", "segments", "transforms-padded"])
@pytest.mark.parametrize("needed", [("u",), ("coeff",), ("damping",), ("D",), ("u", "frequency")])
def test_only_what_is_needed(name, needed):
    harness.need(SPEC.name, CPU)
    inputs = make_inputs(torch.float64, **(WAYS[name] | {"extras": "D"}))
    compare(inputs, torch.float64, needed)


@pytest.mark.parametrize("name", WAYS)
def test_results_do_not_depend_on_threads(name):
    harness.need(SPEC.name, CPU)
    inputs = make_inputs(torch.float32, **WAYS[name])
    outputs = harness.as_tuple(SPEC.function(**inputs, backend=CPU))
    cotangents = harness.cotangents_for(outputs)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(harness.run(SPEC, inputs, CPU, cotangents))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(other[k], results[0][k]) for k in results[0])


@pytest.mark.parametrize("batch, length", [(1, 300), (20, 128)])
@pytest.mark.parametrize("damping, frequency", [(0.0, 1.0), (0.0, 0.0), (1e4, 2.0)])
def test_modes_at_the_ends(batch, length, damping, frequency):
    """|lambda| = 1, lambda = 1 and lambda = 0, by sweeps and by transforms."""
    harness.need(SPEC.name, CPU)
    inputs = make_inputs(torch.float32, batch=batch, grid=(length,), extras="D", states=16)
    inputs["damping"] = torch.full_like(inputs["damping"], damping)
    inputs["frequency"] = torch.full_like(inputs["frequency"], frequency)
    doubled = harness.in_float64(inputs)
    expected = harness.run(SPEC, doubled, "composite")["out0"]
    result = harness.run(SPEC, inputs, CPU)["out0"]
    assert harness.relative_error(result, expected) < 1e-6


def test_256_states():
    harness.need(SPEC.name, CPU)
    compare(make_inputs(torch.float64, grid=(70,), channels=1, states=256), torch.float64)
    compare(
        make_inputs(torch.float64, grid=(70,), channels=1, states=256, extras=""), torch.float64
    )


SIZES = st.integers(min_value=1, max_value=70)


@harness.property_of(40)
@given(
    batch=st.integers(0, 18),
    channels=st.integers(1, 3),
    length=SIZES,
    other=st.sampled_from([0, 1, 3]),
    states=st.integers(1, 9),
    direction=st.sampled_from(["forward", "backward", "both"]),
    boundary=st.sampled_from(["zero", "periodic"]),
    extras=st.sampled_from(["", "D", "D state"]),
    layout=st.sampled_from([dict, odd_strides, channels_last]),
)
def test_any_size(batch, channels, length, other, states, direction, boundary, extras, layout):
    harness.need(SPEC.name, CPU)
    grid = (length, other) if other else (length,)
    inputs = make_inputs(
        torch.float64,
        batch=batch,
        channels=channels,
        grid=grid,
        dim=2,
        states=states,
        direction=direction,
        boundary=boundary,
        extras=extras,
    )
    inputs = layout(inputs)
    expected, cotangents = harness.truth(SPEC, inputs)
    results = harness.run(SPEC, inputs, CPU, cotangents)
    for name, reference in expected.items():
        assert harness.relative_error(results[name], reference) < 1e-11, name


@pytest.mark.parametrize("grid, dim", [((70, 10001), 2), ((10001, 70), 3), ((4, 175001), 2)])
def test_outputs_larger_than_the_caches(grid, dim):
    """They are stored another way; their parts are not."""
    harness.need(SPEC.name, CPU)
    inputs = make_inputs(torch.float32, batch=3, channels=2, grid=grid, dim=dim, extras="D")
    assert inputs["u"].nbytes > 2**24
    whole = SPEC.function(**inputs, backend=CPU)
    for i, u in enumerate(inputs["u"].split(1)):
        part = SPEC.function(**(inputs | {"u": u}), backend=CPU)
        assert harness.relative_error(whole[i : i + 1], part) < 1e-6


@pytest.mark.parametrize("per_sweep", ["", "coeff"])
def test_conjugated_views(per_sweep):
    harness.need(SPEC.name, CPU)
    inputs = make_inputs(torch.float32, per_sweep=per_sweep, extras="D state")
    views = {k: x.conj() for k, x in inputs.items() if k in ("coeff", "initial_state")}
    copies = {k: x.resolve_conj() for k, x in views.items()}
    out = SPEC.function(**(inputs | views), backend=CPU)
    expected = SPEC.function(**(inputs | copies), backend=CPU)
    assert all(map(torch.equal, harness.as_tuple(out), harness.as_tuple(expected)))
