# SPDX-License-Identifier: MIT
"""The shape of an operator's table (`<op>/spec.py`), which tests and benchmarks read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Sample:
    """One set of small inputs: a name that says what it covers, and how to make it."""

    name: str
    make: Callable[[torch.dtype], Inputs]


@dataclass(frozen=True)
class BadInput:
    """Arguments to be refused: what is changed, the exception, a pattern its text matches."""

    name: str
    change: Callable[[Inputs], Inputs]
    error: type[Exception]
    match: str


@dataclass(frozen=True)
class BenchShape:
    """A shape that real runs use; `quick` ones are timed by the default profile."""

    name: str
    sizes: dict[str, int]
    dtype: torch.dtype = torch.float32
    quick: bool = False
    gated: bool = False  # the operator's output gate is part of what the run computes


@dataclass(frozen=True)
class Spec:
    """All that a test or a benchmark needs to know of an operator."""

    name: str
    function: Callable[..., Any]
    samples: tuple[Sample, ...]
    core: tuple[str, ...]
    """The few samples that use every argument between them, for the tests that cost most."""
    bad_inputs: tuple[BadInput, ...]
    """Changes to the first core sample."""
    bench_shapes: tuple[BenchShape, ...]
    tolerances: dict[torch.dtype, float] = field(
        default_factory=lambda: {
            # relative error ||out - ref|| / ||ref|| of each output and gradient, against float64
            torch.float64: 1e-12,  # 4000 ulp: rounding grows with the square root of the steps
            torch.float32: 1e-5,  # 80 ulp, for the same reason
            torch.bfloat16: 1e-2,  # the output's own rounding is 2e-3; state and sums are float32
            torch.float16: 1e-2,  # 3e-4 likewise; the bound allows for gradients near underflow
        }
    )


def sampler(make_inputs: Callable[..., Inputs]) -> Callable[..., Sample]:
    """sample(name, layout, **sizes): the inputs of these sizes, their tensors laid out anew."""

    def sample(name: str, layout: Callable[[Inputs], Inputs] | None = None, **sizes: Any) -> Sample:
        def make(dtype: torch.dtype) -> Inputs:
            inputs = make_inputs(dtype, **sizes)
            return layout(inputs) if layout else inputs

        return Sample(name, make)

    return sample


def windows(inputs: Inputs, expanded: str | None = None) -> Inputs:
    """Every tensor a strided window into a larger one; one of them expanded over the batch."""

    def change(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        big = x.new_full([2 * n + 1 for n in x.shape], float("nan"))
        return big[tuple(slice(1, None, 2) for _ in x.shape)].copy_(x)

    changed = {k: change(x) for k, x in inputs.items()}
    if expanded:
        changed[expanded] = changed[expanded][:1].expand_as(inputs[expanded])
    return changed


def with_(**changes: Any) -> Callable[[Inputs], Inputs]:
    """Replace arguments; a callable value gets the argument it replaces."""

    def change(inputs: Inputs) -> Inputs:
        return inputs | {k: v(inputs.get(k)) if callable(v) else v for k, v in changes.items()}

    return change
