# SPDX-License-Identifier: MIT
"""torch.func through every operator: vmap over any argument, forward mode, and one in the other."""

from __future__ import annotations

import harness
import pytest
import torch
from harness import as_function, leaves
from torch.autograd import forward_ad

TINY = 1e-12  # float64 rounding; both sides run in float64

# The rules are one for all kernels, so that what simulates a device need not run them all.
each_case = pytest.mark.parametrize("spec, backend, sample", harness.cases(simulate=False))


def assert_equal(results, expected, bound: float = TINY) -> None:
    for value, other in zip(harness.as_tuple(results), harness.as_tuple(expected), strict=True):
        assert value.shape == other.shape and other.any()
        assert harness.relative_error(value.detach(), other.detach()) < bound


def case(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)
    return as_function(spec, inputs, backend)


def several(values):
    return tuple(torch.stack([x, 0.5 * x, 0.2 * x]) for x in values)


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_forward_mode(spec, backend, sample):
    results = []
    for name in (backend, "reference"):
        function, values = case(spec, name, sample)
        tangents = tuple(t.to(values[0].device) for t in harness.cotangents_for(values, seed=2))
        outputs, moved = torch.func.jvp(function, values, tangents)
        results.append(harness.as_tuple(outputs) + harness.as_tuple(moved))
    assert_equal(*results)


@each_case
def test_forward_mode_of_autograd(spec, backend, sample):
    """Dual numbers in the first argument alone."""
    function, values = case(spec, backend, sample)
    tangent = torch.ones_like(values[0])
    _, expected = torch.func.jvp(lambda x: function(x, *values[1:]), values[:1], (tangent,))
    with forward_ad.dual_level():
        outputs = function(forward_ad.make_dual(values[0], tangent), *values[1:])
        moved = tuple(forward_ad.unpack_dual(o).tangent for o in harness.as_tuple(outputs))
    assert_equal(moved, expected)


@each_case
def test_vmap_and_its_gradient(spec, backend, sample):
    """vmap over three sets of arguments equals a loop over them, and so do its gradients."""
    function, values = case(spec, backend, sample)
    many = leaves(several(values))
    mapped = harness.as_tuple(torch.func.vmap(function)(*many))
    looped = [harness.as_tuple(function(*(x[i] for x in many))) for i in range(3)]
    looped = tuple(torch.stack(o) for o in zip(*looped, strict=True))
    cotangents = [v.to(values[0].device) for v in harness.cotangents_for(mapped)]
    assert_equal(mapped, looped)
    assert_equal(
        torch.autograd.grad(mapped, many, cotangents),
        torch.autograd.grad(looped, many, cotangents),
    )


@each_case
def test_vmap_over_each_argument(spec, backend, sample):
    """The others are the same for all; the axis mapped is the last one."""
    function, values = case(spec, backend, sample)
    for i, x in enumerate(values):
        scaled = torch.stack([x, 0.5 * x, 0.2 * x], dim=-1)
        axes = tuple(-1 if j == i else None for j in range(len(values)))
        mapped = torch.func.vmap(function, axes)(*(*values[:i], scaled, *values[i + 1 :]))
        looped = [
            harness.as_tuple(function(*values[:i], scaled[..., n], *values[i + 1 :]))
            for n in range(3)
        ]
        assert_equal(mapped, tuple(torch.stack(o) for o in zip(*looped, strict=True)))


def scalar(function):
    def total(*values):
        outputs = harness.as_tuple(function(*values))
        return sum((torch.view_as_real(o) if o.is_complex() else o).sin().sum() for o in outputs)

    return total


@each_case
def test_gradients_of_each_member(spec, backend, sample):
    """vmap of grad, activations mapped: the gradients of every argument, one member at a time."""
    function, values = case(spec, backend, sample)
    gradient = torch.func.grad(scalar(function), argnums=tuple(range(len(values))))
    many = torch.stack([values[0], 0.5 * values[0]])
    axes = (0, *[None] * (len(values) - 1))
    mapped = torch.func.vmap(gradient, axes)(many, *values[1:])
    looped = [gradient(x, *values[1:]) for x in many]
    assert_equal(mapped, tuple(torch.stack(g) for g in zip(*looped, strict=True)))


@each_case
def test_hessian_times_vector(spec, backend, sample):
    """Forward over reverse equals reverse over reverse, all arguments moving."""
    function, values = case(spec, backend, sample)
    as_real = tuple(torch.view_as_real(x) if x.is_complex() else x for x in values)

    def total(*numbers):  # gradients of complex arguments are conjugate, of these they are not
        pairs = zip(numbers, values, strict=True)
        return scalar(function)(
            *(torch.view_as_complex(n) if x.is_complex() else n for n, x in pairs)
        )

    gradient = torch.func.grad(total, argnums=tuple(range(len(values))))
    tangents = tuple(t.to(values[0].device) for t in harness.cotangents_for(as_real, seed=3))
    _, forward = torch.func.jvp(gradient, as_real, tangents)
    _, pull = torch.func.vjp(gradient, *as_real)
    assert_equal(forward, pull(tangents), 1e-10)


@each_case
def test_hessian(spec, backend, sample):
    """vmap of forward over reverse: the second derivatives of two numbers that scale arguments."""
    function, values = case(spec, backend, sample)

    def total(s):
        return scalar(function)(s[0] * values[0], *(s[1] * x for x in values[1:]))

    s = torch.tensor([0.9, 0.8], dtype=torch.float64, device=values[0].device)
    found = torch.func.hessian(total)(s)
    (gradient,) = torch.autograd.grad(total(leaves([s])[0]), s, create_graph=True)
    rows = [torch.autograd.grad(g, s, retain_graph=True)[0] for g in gradient]
    assert_equal(found, torch.stack(rows), 1e-10)
