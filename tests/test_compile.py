# SPDX-License-Identifier: MIT
"""torch.compile(fullgraph=True) through every operator: same results, one graph, right choices."""

from __future__ import annotations

import importlib

import harness
import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from ssno_kernels import registry, use_backend
from ssno_kernels.models import SSNO2d
from ssno_kernels.nn import CrossSelectiveScan


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


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize("backend", ["cpu", "composite"])
def test_exported_once_for_all_sizes(spec, backend):
    """Batch, length and grid of a program of torch.export may change."""
    harness.need(spec.name, backend)
    make_inputs = importlib.import_module(f"ssno_kernels.ops.{spec.name}.spec").make_inputs
    program = None
    for sizes in SIZES[spec.name]:
        inputs = make_inputs(torch.float64, **sizes)
        function, tensors = harness.as_function(spec, inputs, backend)
        if program is None:
            dims = tuple((torch.export.Dim.AUTO,) * x.dim() for x in tensors)
            call = Call(function)
            program = torch.export.export(call, tensors, dynamic_shapes=(dims,)).module()
        results, expected = (harness.as_tuple(f(*tensors)) for f in (program, function))
        named = ({f"out{i}": x for i, x in enumerate(r)} for r in (results, expected))
        harness.assert_close(*named, 1e-12)


class Call(torch.nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *tensors):
        return self.function(*tensors)


# Composites with chunks, and whose they are
ANY = {
    "selective_scan": "selective_scan",
    "cross_selective_scan": "selective_scan",
    "damped_conv": "damped_conv",
}


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
@pytest.mark.parametrize(
    "backend", [b for b in ("cuda", "triton", "cpu", "composite") if not harness.simulated(b)]
)
def test_other_sizes_are_not_compiled_anew(spec, backend):
    """Batch, length and grid may change, forward and backward."""
    device = harness.need(spec.name, backend)
    make_inputs = importlib.import_module(f"ssno_kernels.ops.{spec.name}.spec").make_inputs
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(spec.function, fullgraph=True, dynamic=True, backend=counter)
    compiled_first = 0
    for sizes in SIZES[spec.name]:
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
    assert counter.frame_count == compiled_first > 0


@pytest.mark.parametrize(
    "spec, backend, sample",
    [
        case
        for case in harness.cases(("composite",), every_sample=True)
        if case.values[0].name in ANY
    ],
)
def test_composites_that_are_not_told_the_length(spec, backend, sample, monkeypatch):
    """As where it is a symbol, of which nothing may be asked; chunks of 4 make many levels."""
    composite = importlib.import_module(f"ssno_kernels.ops.{ANY[spec.name]}.composite")
    monkeypatch.setattr(composite, "is_symbol", lambda size: True)
    monkeypatch.setattr(composite, "CHUNK", 4, raising=False)
    inputs = sample.make(torch.float64)
    expected, cotangents = harness.truth(spec, inputs)
    results = harness.run(spec, inputs, backend, cotangents)
    harness.assert_close(results, expected, spec.tolerances[torch.float64])


MODELS = {
    "SSNO2d": lambda: SSNO2d(1, 1, hidden=4, width=4, states=2, blocks=2),
    "CrossSelectiveScan": lambda: CrossSelectiveScan(3, states=2),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_on_other_grids_are_not_compiled_anew(name):
    """With operators one after the other, which get cotangents of results that nobody used."""
    torch.manual_seed(0)
    net = MODELS[name]().double()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(net, fullgraph=True, dynamic=True, backend=counter)
    compiled_first = 0
    for batch, grid in ((2, (12, 18)), (3, (16, 10))):
        x = torch.randn(batch, 3 if name == "CrossSelectiveScan" else 1, *grid).double()
        results = []
        for call in (net, compiled):
            y = call(x)
            v = torch.autograd.grad(y.sin().sum(), [*net.parameters()])
            results.append({"y": y.detach()} | {str(i): g for i, g in enumerate(v)})
        harness.assert_close(results[1], results[0], 1e-12)
        compiled_first = compiled_first or counter.frame_count
    assert counter.frame_count == compiled_first > 0
