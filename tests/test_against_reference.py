# SPDX-License-Identifier: MIT
"""Every operator, backend, dtype and sample: outputs and gradients against the reference."""

from __future__ import annotations

import harness
import pytest
import torch

CASES = [
    pytest.param(
        spec, backend, dtype, sample, id=f"{spec.name}-{backend}-{str(dtype)[6:]}-{sample.name}"
    )
    for spec in harness.SPECS
    for backend in harness.compared(spec)
    for dtype in harness.DTYPES
    for sample in spec.samples
]


@pytest.mark.parametrize("spec, backend, dtype, sample", CASES)
def test_outputs_and_gradients(spec, backend, dtype, sample):
    device = harness.need(spec.name, backend)
    inputs = sample.make(dtype)
    expected, cotangents = harness.truth(spec, inputs)
    results = harness.run(spec, harness.to_device(inputs, device), backend, cotangents)
    assert results["out0"].dtype == dtype
    harness.assert_close(results, expected, spec.tolerances[dtype])


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
def test_tolerances_fail_on_zeros(spec):
    expected, _ = harness.truth(spec, spec.samples[0].make(torch.float32))
    zeros = {k: torch.zeros_like(v) for k, v in expected.items()}
    with pytest.raises(AssertionError, match="exceeds"):
        harness.assert_close(zeros, expected, max(spec.tolerances.values()))
