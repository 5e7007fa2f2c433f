# SPDX-License-Identifier: MIT
"""Properties of `selective_scan` itself, on every backend, in float64 unless said otherwise."""

from __future__ import annotations

import harness
import pytest
import torch
import torch._dynamo.testing
from hypothesis import given
from hypothesis import strategies as st

from ssno_kernels import selective_scan
from ssno_kernels.ops.selective_scan.spec import SPEC, make_inputs

BACKENDS = harness.compared(SPEC)
KERNELS = [b for b in BACKENDS if b != "composite"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_kernel = pytest.mark.parametrize("backend", KERNELS)
TINY = 1e-12

sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "channels": st.sampled_from([1, 2, 6, 18]),
        "length": st.integers(1, 90),
        "states": st.integers(1, 6),
        "kind_B": st.sampled_from(["variable", "grouped", "constant"]),
        "kind_C": st.sampled_from(["variable", "grouped", "constant"]),
        "groups": st.just(1),
        "is_complex": st.booleans(),
        "rank": st.integers(0, 2),
        "reverse": st.booleans(),
        "seed": st.integers(0, 1000),
    }
)
property_of_few = harness.property_of(12)


def inputs_on(backend: str, dtype: torch.dtype = torch.float64, **sizes) -> dict:
    return harness.to_device(make_inputs(dtype, **sizes), harness.need(SPEC.name, backend))


def affordable(backend: str, sizes: dict) -> dict:
    """Of long sequences few steps, where the interpreter takes them one by one."""
    if not harness.simulated(backend):
        return sizes
    return sizes | {"batch": 1, "length": min(sizes["length"], 2 + sizes["length"] % 24)}


def time_slice(inputs: dict, window: slice) -> dict:
    """The inputs over a window of time steps; interleaved B and C of a complex A in pairs."""
    length = inputs["u"].shape[-1]

    def cut(x):
        if x.shape[-1] == length:
            return x[..., window]
        return x.unflatten(-1, (length, 2))[..., window, :].flatten(-2)

    varying = ("u", "delta", "z", *(k for k in "BC" if inputs[k].dim() > 2))
    return inputs | {k: cut(inputs[k]) for k in varying if k in inputs}


def flipped(inputs: dict) -> dict:
    length = inputs["u"].shape[-1]

    def flip(x):
        return (
            x.flip(-1) if x.shape[-1] == length else x.unflatten(-1, (-1, 2)).flip(-2).flatten(-2)
        )

    varying = ("u", "delta", "z", *(k for k in "BC" if inputs[k].dim() > 2))
    return inputs | {k: flip(inputs[k]) for k in varying if k in inputs}


def assert_same(value: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.norm() > 0, "two zeros are no evidence"
    assert harness.relative_error(value, expected) < TINY


@each_backend
@property_of_few
@given(sizes=sizes, a=st.floats(-2, 2), b=st.floats(0.1, 2))
def test_linear_in_input_and_state(backend, sizes, a, b):
    """f(a x + b y) = a f(x) + b f(y) for x = (u, initial_state) and the outputs."""
    sizes = affordable(backend, sizes)
    x, y = inputs_on(backend, **sizes), inputs_on(backend, **(sizes | {"seed": 2000}))
    y = x | {k: y[k] for k in ("u", "initial_state")}
    mixed = x | {k: a * x[k] + b * y[k] for k in ("u", "initial_state")}
    pairs = [selective_scan(**i, backend=backend) for i in (mixed, x, y)]
    for whole, first, second in zip(*pairs, strict=True):
        assert_same(whole, a * first + b * second)


@each_backend
@property_of_few
@given(sizes=sizes)
def test_reverse_is_flip_run_flip(backend, sizes):
    sizes = affordable(backend, sizes)
    inputs = inputs_on(backend, **sizes)
    out, state = selective_scan(**inputs, backend=backend)
    other = flipped(inputs) | {"reverse": not inputs["reverse"]}
    out_other, state_other = selective_scan(**other, backend=backend)
    assert_same(out, out_other.flip(-1))
    assert_same(state, state_other)


@each_backend
@property_of_few
@given(sizes=sizes, where=st.floats(0, 1))
def test_split_sequence_with_carried_state_is_the_whole(backend, sizes, where):
    """Outputs, final state, and the gradients through the state that is carried over."""
    sizes = affordable(backend, sizes)
    inputs = inputs_on(backend, **(sizes | {"length": sizes["length"] + 1}))
    length = inputs["u"].shape[-1]
    cut = 1 + int(where * (length - 2))
    windows = [slice(0, cut), slice(cut, length)]
    if inputs["reverse"]:
        windows.reverse()
    leaves = {k: x.requires_grad_() for k, x in harness.tensors(inputs).items()}
    inputs = inputs | leaves
    out, state = selective_scan(**inputs, backend=backend)
    carried, parts = inputs["initial_state"], []
    for window in windows:
        part = time_slice(inputs, window) | {"initial_state": carried}
        out_part, carried = selective_scan(**part, backend=backend)
        parts.append(out_part)
    if inputs["reverse"]:
        parts.reverse()
    joined = torch.cat(parts, dim=-1)
    assert_same(joined, out)
    assert_same(carried, state)
    cotangents = [v.to(out.device) for v in harness.cotangents_for((out, state))]
    whole = torch.autograd.grad((out, state), leaves.values(), cotangents)
    split = torch.autograd.grad((joined, carried), leaves.values(), cotangents)
    for name, v, expected in zip(leaves, split, whole, strict=True):
        assert harness.relative_error(v, expected) < TINY, name


@pytest.mark.parametrize("spec, backend, sample", harness.cases(only=SPEC))
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_in_A_spoils_its_channel_and_no_other(spec, backend, sample, value):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    clean = harness.run(spec, inputs, backend)
    A = inputs["A"].clone()
    A[1, 2] = value
    spoiled = harness.run(spec, inputs | {"A": A}, backend)
    for name, out in spoiled.items():
        others = [d for d in range(A.shape[0]) if d != 1]
        assert torch.equal(out[:, others], clean[name][:, others]), name
    assert not spoiled["out0"][:, 1].isfinite().any()


@pytest.mark.parametrize(
    "options", [{}, {"length": 69, "states": 2}, {"is_complex": True}], ids=str
)
@pytest.mark.parametrize("rate", [float("-inf"), -3e38])
@each_backend
def test_rates_beyond_all_bounds(backend, rate, options):
    """Finite where the reference is, also in what fills a tile of steps up.

    exp(0 A) is 1 for any finite A; in float32, A in other units than the reference's may not be.
    """
    device = harness.need(SPEC.name, backend)
    sizes = {"batch": 1, "channels": 3, "length": 5, "extras": "z initial_state"}
    inputs = make_inputs(torch.float32, **(sizes | options)) | {"delta_softplus": False}
    inputs["delta"].abs_()
    inputs["A"][1, 1] = rate
    if rate > float("-inf"):
        inputs["delta"][0, 1, ::3] = 0
    expected, cotangents = harness.truth(SPEC, inputs)
    results = harness.run(SPEC, harness.to_device(inputs, device), backend, cotangents)
    for name, reference in expected.items():
        compared = reference.isfinite()
        if name == "v_delta":  # has A itself as a factor where a step of 0 decays nothing
            compared &= inputs["delta"] != 0
        assert compared.any(), name
        value = results[name].cpu()[compared]
        assert harness.relative_error(value, reference[compared]) <= 1e-5, name


@each_kernel
def test_checkpoints_are_saved_only_for_gradients(backend):
    inputs = inputs_on(backend, length=300)
    with harness.RecordKernels() as record:
        selective_scan(**inputs, backend=backend)
        selective_scan(**(inputs | {"u": inputs["u"].requires_grad_()}), backend=backend)
    sizes = [outputs[2].numel() for _, _, outputs in record.calls]
    assert sizes[0] == 0 and sizes[1] > 0
