# SPDX-License-Identifier: MIT
"""What only the cuda backend of `damped_conv` has: segments of lines, tensor cores."""

from __future__ import annotations

import harness
import pytest
import torch

from ssno_kernels import damped_conv
from ssno_kernels.ops.damped_conv.spec import EVERY, SPEC, make_inputs

SEGMENT = {torch.float64: 2048, torch.bfloat16: 4096}  # samples


@pytest.fixture(autouse=True)
def device() -> str:
    return harness.need(SPEC.name, "cuda")


def compare(inputs: dict, bound: float) -> None:
    """Outputs and all gradients with those of the composite in float64."""
    doubled = harness.in_float64(inputs)
    shapes = harness.as_tuple(damped_conv(**doubled, backend="composite"))
    cotangents = [c.bfloat16().to(c) for c in harness.cotangents_for(shapes) if not c.is_complex()]
    if len(shapes) > 1:
        cotangents.append(harness.cotangents_for(shapes)[1].to(torch.complex64).to(shapes[1]))
    expected = harness.run(SPEC, doubled, "composite", cotangents)
    inputs = harness.to_device(inputs, harness.device_of("cuda"))
    harness.assert_close(harness.run(SPEC, inputs, "cuda", cotangents), expected, bound)


@pytest.mark.parametrize(
    "options",
    [
        {"per_sweep": EVERY},
        {"boundary": "periodic", "extras": "state"},
        {"direction": "backward", "extras": "D"},
    ],
    ids=["both", "periodic", "backward-from-rest"],
)
@pytest.mark.parametrize("dtype", SEGMENT, ids=str)
def test_segments(dtype, options):
    """A line of three, the last of one chunk that is short."""
    length = 2 * SEGMENT[dtype] + 5
    inputs = make_inputs(dtype, batch=1, channels=1, grid=(length,), states=2, **options)
    compare(inputs, SPEC.tolerances[dtype])


def test_segments_of_columns():
    inputs = make_inputs(
        torch.float64, batch=1, channels=2, grid=(2049, 2), dim=2, states=1, direction="forward"
    )
    compare(inputs, 1e-12)


def test_more_lines_than_a_tile_has():
    """With chunks of 16 and of 64, and some columns of tiles without a line."""
    for grid in ((150, 3), (40, 70)):
        inputs = make_inputs(torch.float32, batch=1, channels=1, grid=grid, states=2)
        compare(inputs, 1e-5)


def test_axes_in_another_order_in_memory():
    """The kernels count lines along the axis that is closest in memory."""
    inputs = make_inputs(torch.float64, batch=2, channels=2, grid=(3, 7, 4, 2), dim=3, states=2)
    inputs["u"] = inputs["u"].movedim((-1, 2), (0, 1)).contiguous().movedim((0, 1), (-1, 2))
    inputs["initial_state"] = inputs["initial_state"].movedim(4, 0).contiguous().movedim(0, 4)
    compare(inputs, 1e-12)


def test_a_thousand_states():
    inputs = make_inputs(torch.float32, batch=1, channels=1, grid=(5,), states=1024)
    compare(inputs, 1e-5)


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_tf32_with_leave_alone(monkeypatch, boundary):
    """Of float32; its error shows where it was used."""
    inputs = make_inputs(torch.float32, batch=1, channels=2, grid=(83,), boundary=boundary)
    expected, cotangents = harness.truth(SPEC, inputs)
    inputs = harness.to_device(inputs, harness.device_of("cuda"))
    exact = harness.run(SPEC, inputs, "cuda", cotangents)
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32")
    harness.assert_close(exact, expected, 1e-5)
    fast = harness.run(SPEC, inputs, "cuda", cotangents)
    harness.assert_close(fast, expected, 1e-3)
    assert harness.relative_error(fast["out0"], expected["out0"]) > 1e-6


def test_states_beyond_float16():
    """A sum of samples of one sign, without damping, beyond the 65504 that float16 ends with."""
    inputs = make_inputs(
        torch.float16, batch=1, channels=1, grid=(900,), states=1, direction="forward", extras=""
    )
    inputs["u"] = inputs["u"].abs() * 100
    inputs["damping"] *= 0
    inputs["frequency"] *= 0
    inputs["coeff"] = torch.full_like(inputs["coeff"], 1e-3)
    expected, _ = harness.truth(SPEC, inputs, gradients=False)
    assert inputs["u"].double().sum() > 65504
    inputs = harness.to_device(inputs, harness.device_of("cuda"))
    harness.assert_close(harness.run(SPEC, inputs, "cuda"), expected, 1e-2)


@pytest.mark.parametrize("name", ["u", "damping", "coeff", "D", "step", "initial_state"])
def test_only_what_is_needed(name):
    """One gradient alone is what it is among all."""
    inputs = make_inputs(torch.float32, batch=1, channels=1, grid=(35,))
    _, cotangents = harness.truth(SPEC, inputs)
    inputs = harness.to_device(inputs, harness.device_of("cuda"))
    together = harness.run(SPEC, inputs, "cuda", cotangents)
    alone = harness.run(SPEC, inputs, "cuda", cotangents, needed=[name])
    assert torch.equal(alone[f"v_{name}"], together[f"v_{name}"])
