# SPDX-License-Identifier: MIT
"""CUDA graphs: a captured call, forward and backward, replays on other values."""

from __future__ import annotations

import harness
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssno_kernels import registry
from ssno_kernels.nn import AliasFreeActivation, CrossSelectiveScan, DampedConv

CASES = [c for c in harness.cases() if c.values[1] in ("cuda", "triton", "composite")]
LAYERS = {
    "DampedConv": lambda: DampedConv(3, 4),
    "AliasFreeActivation": lambda: AliasFreeActivation(2, 1, 3),
    "CrossSelectiveScan": lambda: CrossSelectiveScan(3, states=2),
}
needs_a_device = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no CUDA device is present"
)


@needs_a_device
@pytest.mark.parametrize("spec, backend, sample", CASES)
def test_capture_and_replay(spec, backend, sample):
    """The same bits as a call, from values written to the tensors after the capture."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), "cuda")
    outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
    cotangents = [c.cuda() for c in harness.cotangents_for(outputs)]
    assert device == "cuda"

    def call() -> dict[str, torch.Tensor]:
        return harness.run(spec, inputs, backend, cotangents)

    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for _ in range(2):  # compiles Triton's kernels, fills the caches of the allocator
            call()
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = call()
    for factor in (0.5, 1.5):
        for x in [*harness.tensors(inputs).values(), *cotangents]:
            if x.is_floating_point() or x.is_complex():
                x.mul_(factor)
        graph.replay()
        expected = call()
        for name, value in captured.items():
            assert torch.equal(value, expected[name]), name


@needs_a_device
@pytest.mark.parametrize("name", LAYERS)
def test_graphed_layers(name):
    """torch.cuda.make_graphed_callables: outputs and gradients of a training step."""
    torch.manual_seed(0)
    layer = LAYERS[name]().cuda()
    x = torch.randn(2, 3, 8, 8, device="cuda", requires_grad=True)
    y = layer(x)
    v = torch.randn_like(y)
    expected = torch.autograd.grad(y, [x, *layer.parameters()], v)
    graphed = torch.cuda.make_graphed_callables(layer, (x.detach().clone().requires_grad_(),))
    again = graphed(x)
    assert harness.relative_error(again, y) < 1e-6
    gradients = torch.autograd.grad(again, [x, *layer.parameters()], v)
    for g, e in zip(gradients, expected, strict=True):
        assert harness.relative_error(g, e) < 1e-5


class _OnMeta(TorchDispatchMode):
    """Refuses what a graph cannot capture: a tensor of the host beside those of the device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        for t in tree_leaves((args, kwargs)):
            on_host = isinstance(t, torch.Tensor) and t.device.type != "meta" and t.dim() > 0
            assert not on_host, f"{func} takes a tensor of the host of shape {tuple(t.shape)}"
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda spec: spec.name)
def test_no_value_is_read_on_the_way(spec, monkeypatch):
    """On the meta device, whose tensors have no values: reading one, to the host or as a size,
    raises. It runs all of a call, forward and backward, but for the kernels' own launches.
    """
    monkeypatch.setattr(registry, "why_not", lambda *_, **__: None)
    for sample in spec.samples:
        if sample.name not in spec.core:
            continue
        inputs = harness.to_device(sample.make(torch.float32), "meta")
        for backend in harness.compared(spec):
            outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
            cotangents = [torch.empty_like(o) for o in outputs]
            with _OnMeta():
                results = harness.run(spec, inputs, backend, cotangents)
            assert all(r.device.type == "meta" for r in results.values())
