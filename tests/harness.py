# SPDX-License-Identifier: MIT
"""What every test of an operator shares: the table of cases, running one, comparing two."""

from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor

from ssno_kernels import registry
from ssno_kernels.ops.selective_scan.spec import SPEC as SELECTIVE_SCAN
from ssno_kernels.ops.spec import Inputs, Spec

SPECS = (SELECTIVE_SCAN,)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
REQUIRED = set(filter(None, os.environ.get("SSNO_REQUIRE", "").split(",")))


def device_of(backend: str) -> str:
    """The device on which this machine can run a backend."""
    if backend in ("cuda", "triton") and torch.cuda.is_available() and not registry.interpreting():
        return "cuda"
    return "cpu"


def need(operator: str, backend: str) -> str:
    """Skip, or fail if SSNO_REQUIRE says so, where a backend cannot serve; return its device."""
    device = device_of(backend)
    reason = registry.why_not(operator, backend, device)
    if reason is not None:
        message = f"{operator} on {backend}: {reason}"
        if backend in REQUIRED:
            pytest.fail(f"SSNO_REQUIRE names {backend}, but {message}")
        pytest.skip(message)
    return device


def backends(spec: Spec) -> tuple[str, ...]:
    """The backends of an operator that are compared with its reference."""
    return tuple(b for b in registry.OPERATORS[spec.name] if b != "reference")


def tensors(inputs: Inputs) -> dict[str, Tensor]:
    return {k: x for k, x in inputs.items() if isinstance(x, Tensor)}


def in_float64(inputs: Inputs) -> Inputs:
    """The same values in double precision."""

    def up(x):
        if not isinstance(x, Tensor):
            return x
        return x.to(torch.complex128 if x.is_complex() else torch.float64)

    return {k: up(x) for k, x in inputs.items()}


def to_device(inputs: Inputs, device: str) -> Inputs:
    return {k: x.to(device) if isinstance(x, Tensor) else x for k, x in inputs.items()}


def as_tuple(outputs) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def cotangents_for(outputs: tuple[Tensor, ...], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]


def run(spec: Spec, inputs: Inputs, backend: str, cotangents=None) -> dict[str, Tensor]:
    """Outputs `out0`, `out1` and, with cotangents, the gradient `v_x` of every tensor x."""
    leaves = {
        k: x.detach().requires_grad_(cotangents is not None) for k, x in tensors(inputs).items()
    }
    outputs = as_tuple(spec.function(**(inputs | leaves), backend=backend))
    results = {f"out{i}": o for i, o in enumerate(outputs)}
    if cotangents is not None:
        v = [c.to(device=o.device, dtype=o.dtype) for c, o in zip(cotangents, outputs, strict=True)]
        gradients = torch.autograd.grad(outputs, list(leaves.values()), v)
        results |= {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}
    return {k: r.detach() for k, r in results.items()}


def truth(spec: Spec, inputs: Inputs, gradients: bool = True):
    """The float64 reference on the same values, and the cotangents it was differentiated with."""
    doubled = in_float64(inputs)
    outputs = as_tuple(spec.function(**doubled, backend="reference"))
    cotangents = [
        # rounded to what the outputs of the tested dtype can hold, so that both sides get the same
        c.to(inputs["u"].dtype).to(c.dtype) if not c.is_complex() else c.to(torch.complex64).to(c)
        for c in cotangents_for(outputs)
    ]
    return run(spec, doubled, "reference", cotangents if gradients else None), cotangents


def relative_error(value: Tensor, expected: Tensor) -> float:
    if expected.numel() == 0:
        return 0.0 if value.shape == expected.shape else float("inf")
    expected = expected.cpu()
    difference = (value.cpu().to(expected.dtype) - expected).norm()
    return (difference / expected.norm().clamp_min(1e-300)).item()


def assert_close(results: dict[str, Tensor], expected: dict[str, Tensor], bound: float) -> None:
    """Every result within the bound, and the bound such that zeros would be refused."""
    assert results.keys() == expected.keys()
    for name, reference in expected.items():
        assert results[name].shape == reference.shape, name
        error = relative_error(results[name], reference)
        assert error <= bound, f"{name}: relative error {error:.2e} exceeds {bound:.0e}"
        if reference.any():
            zeros = relative_error(torch.zeros_like(reference), reference)
            assert zeros > bound, f"{name}: zeros would pass, so the test says nothing"
