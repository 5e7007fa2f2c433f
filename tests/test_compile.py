# SPDX-License-Identifier: MIT
"""torch.compile(fullgraph=True) through every operator: same results, one graph, right choices."""

from __future__ import annotations

import harness
import pytest
import torch

from ssno_kernels import registry, use_backend


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_forward_and_backward(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    cotangents = harness.cotangents_for(harness.as_tuple(spec.function(**inputs, backend=backend)))
    expected = harness.run(spec, inputs, backend, cotangents)
    compiled = torch.compile(spec.function, fullgraph=True, backend="aot_eager")
    bound = spec.tolerances[torch.float64]
    results = harness.run(spec, inputs, backend, cotangents, function=compiled)
    harness.assert_close(results, expected, bound)
    outputs = {k: x for k, x in expected.items() if k.startswith("out")}
    harness.assert_close(harness.run(spec, inputs, backend, function=compiled), outputs, bound)


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
def test_backend_is_chosen_when_traced(spec, monkeypatch):
    """The compiled call follows the block it is in, and a block inside it."""
    monkeypatch.delenv("SSNO_BACKEND", raising=False)
    inputs = harness.first_core(spec)
    seen = []
    original = registry.why_not

    def spy(operator, backend, device, forced=True):
        seen.append(backend)
        return original(operator, backend, device, forced)

    monkeypatch.setattr(registry, "why_not", torch._dynamo.assume_constant_result(spy))

    def inside(values):
        with use_backend("reference"):
            return spec.function(**values)

    torch.compile(inside, fullgraph=True, backend="eager")(inputs)
    assert seen == ["reference"]
    seen.clear()
    compiled = torch.compile(
        lambda values: spec.function(**values), fullgraph=True, backend="eager"
    )
    with use_backend("reference"):
        compiled(inputs)
    with use_backend("composite"):
        compiled(inputs)
    assert seen == ["reference", "composite"]
