# SPDX-License-Identifier: MIT
"""What every test of an operator shares: the table of cases, running one, comparing two."""

from __future__ import annotations

import importlib
import os

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ssno_kernels import registry
from ssno_kernels.ops.spec import Inputs, Spec

SPECS: tuple[Spec, ...] = tuple(
    importlib.import_module(f"ssno_kernels.ops.{name}.spec").SPEC for name in registry.OPERATORS
)
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
REQUIRED = set(filter(None, os.environ.get("SSNO_REQUIRE", "").split(",")))
if unknown := REQUIRED - set(registry.BACKENDS):
    raise ValueError(f"SSNO_REQUIRE names {unknown}; expected some of {registry.BACKENDS}")


def device_of(backend: str) -> str:
    """The device on which this machine can run a backend."""
    on_a_gpu = backend in ("cuda", "triton") and not simulated(backend)
    return "cuda" if on_a_gpu and torch.cuda.is_available() else "cpu"


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


def simulated(backend: str) -> bool:
    """Whether a GPU's kernels would run on CPU tensors, which can take seconds a call."""
    if backend == "cuda":
        return registry.extension.host_cuda() is not None
    return backend == "triton" and registry.interpreting()


def compared(spec: Spec) -> tuple[str, ...]:
    """The backends of an operator that are compared with its reference."""
    return tuple(b for b in registry.OPERATORS[spec.name] if b != "reference")


def cases(
    backends: tuple[str, ...] | None = None,
    every_sample: bool = False,
    only: Spec | None = None,
    simulate: bool = True,
) -> list:
    """One case for each operator (or only one), backend (all but the reference) and (core) sample.

    What is simulated takes up to seconds a call, so it gets the first of the core samples only; the
    comparison with the reference runs every sample on it all the same. `simulate` False leaves it
    out: numerical derivatives call a function dozens of times.
    """

    def chosen(spec: Spec, backend: str) -> tuple[str, ...]:
        return spec.core[:1] if simulated(backend) else spec.core

    return [
        pytest.param(spec, backend, sample, id=f"{spec.name}-{backend}-{sample.name}")
        for spec in ([only] if only else SPECS)
        for backend in backends or compared(spec)
        if simulate or not simulated(backend)
        for sample in spec.samples
        if every_sample or sample.name in chosen(spec, backend)
    ]


def first_core(spec: Spec, dtype: torch.dtype = torch.float64) -> Inputs:
    """The first core sample: the one that bad inputs are changes to."""
    return next(s for s in spec.samples if s.name == spec.core[0]).make(dtype)


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


class RecordKernels(TorchDispatchMode):
    """Records the calls of this package's own operators: (operator, arguments, outputs)."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        if func.namespace == "ssno_kernels":
            self.calls.append((func, args, outputs))
        return outputs


def as_tuple(outputs) -> tuple[Tensor, ...]:
    return outputs if isinstance(outputs, tuple) else (outputs,)


def cotangents_for(outputs: tuple[Tensor, ...], seed: int = 1) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]


def run(
    spec: Spec, inputs: Inputs, backend: str, cotangents=None, needed=None, function=None
) -> dict[str, Tensor]:
    """Outputs `out0`, `out1`; with cotangents, the gradient `v_x` of each (needed) argument x."""
    leaves = {k: x.detach() for k, x in tensors(inputs).items() if needed is None or k in needed}
    for leaf in leaves.values():
        leaf.requires_grad_(cotangents is not None)
    outputs = as_tuple((function or spec.function)(**(inputs | leaves), backend=backend))
    results = {f"out{i}": o for i, o in enumerate(outputs)}
    if cotangents is not None:
        # an output may not depend on what is needed: the final state on C
        pairs = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
        v = [c.to(device=o.device, dtype=o.dtype) for o, c in pairs]
        gradients = torch.autograd.grad([o for o, _ in pairs], list(leaves.values()), v)
        results |= {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}
    return {k: r.detach() for k, r in results.items()}


def truth(spec: Spec, inputs: Inputs, gradients: bool = True):
    """The float64 reference on the same values, and the cotangents it was differentiated with."""
    doubled = in_float64(inputs)
    dtype = next(iter(tensors(inputs).values())).dtype  # of the activations, which come first
    outputs = as_tuple(spec.function(**doubled, backend="reference"))
    cotangents = [
        # rounded to what the outputs of the tested dtype can hold, so that both sides get the same
        c.to(dtype).to(c.dtype) if not c.is_complex() else c.to(torch.complex64).to(c)
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
