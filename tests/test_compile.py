# SPDX-License-Identifier: MIT
"""torch.compile(fullgraph=True) through every operator: same results, one graph, right choices."""

from __future__ import annotations

import importlib

import harness
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

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


# Sizes that differ from one another: torch.compile takes equal ones for the same when it traces.
SIZES = {
    "selective_scan": [
        {"batch": b, "length": n} for b, n in ((4, 140), (7, 57), (3, 230), (5, 97))
    ],
    "cross_selective_scan": [
        {"batch": b, "grid": grid}
        for b, grid in ((8, (5, 7)), (9, (2, 8)), (5, (9, 13)), (7, (17, 19)))
    ],
    "damped_conv": [{"batch": b, "grid": (n,)} for b, n in ((5, 40), (7, 57), (6, 130))],
    "alias_free_activation": [
        {"batch": b, "grid": grid} for b, grid in ((4, (9, 11)), (5, (7, 8)), (7, (16, 5)))
    ],
}


# Composites with a loop over chunks, of which torch.compile makes as many pieces.
UNROLLED = ("selective_scan", "cross_selective_scan", "damped_conv")


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "backend", [b for b in ("cuda", "triton", "cpu", "composite") if not harness.simulated(b)]
)
def test_other_sizes_are_not_compiled_anew(spec, backend):
    """Batch, length and grid may change, forward and backward; but for UNROLLED, which do serve."""
    device = harness.need(spec.name, backend)
    make_inputs = importlib.import_module(f"ssno_kernels.ops.{spec.name}.spec").make_inputs
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(spec.function, fullgraph=True, dynamic=True, backend=counter)
    compiled_first = 0
    unrolled = backend == "composite" and spec.name in UNROLLED
    for sizes in SIZES[spec.name][: 2 if unrolled else None]:
        inputs = harness.to_device(make_inputs(torch.float64, **sizes), device)
        first = next(iter(harness.tensors(inputs)))
        for call in (spec.function, compiled):
            leaf = inputs[first].clone().requires_grad_()
            out = harness.as_tuple(call(**(inputs | {first: leaf}), backend=backend))[0]
            out.sin().sum().backward()
            if call is spec.function:
                expected = {"out": out.detach(), "v": leaf.grad}
        harness.assert_close({"out": out.detach(), "v": leaf.grad}, expected, 1e-12)
        compiled_first = compiled_first or counter.frame_count
    assert unrolled or counter.frame_count == compiled_first > 0
