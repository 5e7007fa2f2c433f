# SPDX-License-Identifier: MIT
"""Derivatives of every operator on every backend: of any order, only where needed, in any mode."""

from __future__ import annotations

import harness
import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

TINY = 1e-12  # float64 rounding; both sides run in float64


def as_function(spec, inputs, backend, wanted=None):
    """The operator as a function of its (wanted) tensor arguments alone, and their values."""
    values = {k: x for k, x in harness.tensors(inputs).items() if wanted is None or k in wanted}

    def function(*tensors: Tensor):
        changed = dict(zip(values, tensors, strict=True))
        return spec.function(**(inputs | changed), backend=backend)

    return function, tuple(x.detach().clone() for x in values.values())


def leaves(values):
    return tuple(x.requires_grad_() for x in values)


@pytest.mark.parametrize("spec, backend, sample", harness.cases(simulate=False))
def test_gradcheck(spec, backend, sample):
    """Where a GPU is simulated, it is compared with the reference's derivatives alone."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    function, values = as_function(spec, inputs, backend)
    assert gradcheck(function, leaves(values), fast_mode=True)


@pytest.mark.parametrize("spec, backend, sample", harness.cases(simulate=False))
def test_gradgradcheck(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    function, values = as_function(spec, inputs, backend)
    assert gradgradcheck(function, leaves(values), fast_mode=True)


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_kernels_pass_opcheck(spec, backend, sample):
    """Schema, fake implementation and tracing of each kernel that one training step calls."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    with harness.RecordKernels() as record:
        outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
        harness.run(spec, inputs, backend, harness.cotangents_for(outputs))
    called = {func._opname for func, _, _ in record.calls}
    if backend == "composite":
        assert not called
        return
    assert called == {f"{spec.name}_fwd_{backend}", f"{spec.name}_bwd_{backend}"}
    for func, args, _ in record.calls:
        args = tuple(x.detach() if isinstance(x, Tensor) else x for x in args)
        torch.library.opcheck(func, args)


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_gradients_only_where_needed(spec, backend, sample):
    """Each argument alone gets the gradient it gets among all."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    cotangents = harness.cotangents_for(harness.as_tuple(spec.function(**inputs, backend=backend)))
    together = harness.run(spec, inputs, backend, cotangents)
    for name in harness.tensors(inputs):
        with harness.RecordKernels() as record:
            alone = harness.run(spec, inputs, backend, cotangents, needed=[name])
        assert harness.relative_error(alone[f"v_{name}"], together[f"v_{name}"]) < TINY, name
        for func, _, outputs in record.calls:
            if "_bwd_" in func._opname:
                written = [x for x in outputs if x.numel()]
                assert len(written) == 1, f"{func._opname} wrote {len(written)} cotangents for one"


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_each_output_alone(spec, backend, sample):
    """The gradients of one output, the other unused, add up to those of all."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    function, values = as_function(spec, inputs, backend)
    values = leaves(values)
    cotangents = harness.cotangents_for(harness.as_tuple(function(*values)))
    cotangents = [v.to(device) for v in cotangents]
    outputs = harness.as_tuple(function(*values))
    together = torch.autograd.grad(outputs, values, cotangents)
    total = [torch.zeros_like(x) for x in values]
    for i, v in enumerate(cotangents):
        output = harness.as_tuple(function(*values))[i]
        parts = torch.autograd.grad(output, values, v, allow_unused=True)
        total = [t if p is None else t + p for t, p in zip(total, parts, strict=True)]
    for sum_of_parts, whole in zip(total, together, strict=True):
        assert harness.relative_error(sum_of_parts, whole) < TINY


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_third_derivatives(spec, backend, sample):
    """d^3/ds^3 of a scalar of the outputs, all arguments moving together, against the reference."""
    device = harness.need(spec.name, backend)
    inputs = sample.make(torch.float64)

    def third(backend: str, device: str) -> Tensor:
        function, values = as_function(spec, harness.to_device(inputs, device), backend)
        s = torch.tensor(1.0, dtype=torch.float64, device=device, requires_grad=True)
        outputs = harness.as_tuple(function(*(x * (0.9 + 0.1 * s**2) for x in values)))
        result = sum((torch.view_as_real(o) if o.is_complex() else o).sin().sum() for o in outputs)
        for _ in range(3):
            (result,) = torch.autograd.grad(result, s, create_graph=True)
        return result.detach()

    assert harness.relative_error(third(backend, device), third("reference", "cpu")) < 1e-9


@pytest.mark.parametrize("spec, backend, sample", harness.cases(backends=("composite",)))
def test_forward_mode(spec, backend, sample):
    inputs = sample.make(torch.float64)
    results = []
    for name in (backend, "reference"):
        function, values = as_function(spec, inputs, name)
        tangents = tuple(harness.cotangents_for(values, seed=2))
        outputs, moved = torch.func.jvp(function, values, tangents)
        results.append(harness.as_tuple(outputs) + harness.as_tuple(moved))
    for value, expected in zip(*results, strict=True):
        assert harness.relative_error(value, expected) < TINY


@pytest.mark.parametrize("spec, backend, sample", harness.cases(backends=("composite",)))
def test_vmap_and_its_gradient(spec, backend, sample):
    """vmap over three sets of arguments equals a loop over them, and so do its gradients."""
    inputs = sample.make(torch.float64)
    function, values = as_function(spec, inputs, backend)
    many = leaves(torch.stack([x, 0.5 * x, 0.2 * x]) for x in values)
    mapped = harness.as_tuple(torch.func.vmap(function)(*many))
    looped = [harness.as_tuple(function(*(x[i] for x in many))) for i in range(3)]
    looped = tuple(torch.stack(o) for o in zip(*looped, strict=True))
    cotangents = harness.cotangents_for(mapped)
    pairs = zip(
        (*mapped, *torch.autograd.grad(mapped, many, cotangents)),
        (*looped, *torch.autograd.grad(looped, many, cotangents)),
        strict=True,
    )
    for value, expected in pairs:
        assert harness.relative_error(value, expected) < TINY
