# SPDX-License-Identifier: MIT
"""What only the cuda backend of `alias_free_activation` has: 16 bytes of a row at a time."""

from __future__ import annotations

import harness
import pytest
import torch

from ssno_kernels.ops.alias_free_activation.spec import SPEC, make_inputs

PACK = {torch.float32: 4, torch.bfloat16: 8, torch.float64: 2}  # of 16 bytes


@pytest.fixture(autouse=True)
def device() -> str:
    return harness.need(SPEC.name, "cuda")


def by_element(x: torch.Tensor) -> torch.Tensor:
    """The same with every other element of memory, which is read one at a time."""
    apart = torch.empty(*x.shape, 2, dtype=x.dtype).as_strided(x.shape, [2 * s for s in x.stride()])
    return apart.copy_(x)


def run(inputs: dict) -> dict[str, torch.Tensor]:
    cotangents = harness.truth(SPEC, inputs)[1]
    inputs = harness.to_device(inputs, harness.device_of("cuda"))
    return harness.run(SPEC, inputs, "cuda", cotangents)


@pytest.mark.parametrize("dtype", PACK, ids=str)
@pytest.mark.parametrize(
    "options",
    [
        {"grid": (3, 72), "up": 2, "down": 2},  # three tiles of a row
        {"grid": (5, 40), "up": 2, "down": 4},
        {"grid": (520,), "channels": 2},
        {"grid": (2, 3, 16), "batch": 1, "channels": 1},
        {"grid": (8, 8), "padding": ((60, 1), (-30, 80)), "channels": 1},
        {"grid": (8, 24), "padding": ((11, 10), (200, -30)), "channels": 1},
        {"grid": (2, 8), "channels": 24, "last": True},
    ],
    ids=["rows", "halving", "1-d", "3-d", "far-away", "farther", "channels-last"],
)
def test_wide_as_single(dtype, options):
    """The same numbers to the last bit, and they are right."""
    options = dict(options)
    last = options.pop("last", False)
    inputs = make_inputs(dtype, activation="silu", **options)
    if last:
        inputs["x"] = inputs["x"].movedim(1, -1).contiguous().movedim(-1, 1)
    results = run(inputs)
    harness.assert_close(results, harness.truth(SPEC, inputs)[0], SPEC.tolerances[dtype])
    single = run(inputs | {"x": by_element(inputs["x"])})
    assert results.keys() == single.keys()
    for name in results:
        assert torch.equal(results[name], single[name]), name


@pytest.mark.parametrize("dtype", PACK, ids=str)
@pytest.mark.parametrize("part", ["begin", "end", "rows"])
def test_windows_of_larger_tensors(dtype, part):
    """Rows that begin or end between 16 bytes, and tensors of which only a window is read."""
    windows = {"begin": (..., slice(1, 33)), "end": (..., slice(0, 31))}
    inputs = make_inputs(dtype, grid=(6, 40), channels=2)
    whole = inputs["x"]
    whole[..., 35:] = float("nan")
    inputs["x"] = whole[windows.get(part, (..., slice(1, 4), slice(8, 32)))]
    harness.assert_close(run(inputs), harness.truth(SPEC, inputs)[0], SPEC.tolerances[dtype])
