# SPDX-License-Identifier: MIT
"""What a benchmark must know of an operator, and what it times: an implementation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from ssno_kernels import registry
from ssno_kernels.ops.spec import BenchShape, Inputs, Spec


@dataclass(frozen=True)
class Work:
    """What any implementation must at least do for one call of one shape."""

    elements: int
    bytes: int
    exponentials: int
    fmas: int


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator: a backend of ours, or a peer.

    `serial` ones cost a fixed time per step of the sequence, others per element and state.
    `compiled` ones compile anew for every shape, and the quick profile has them once only.
    """

    name: str
    run: Callable[[Inputs], Tensor]
    why_not: Callable[[BenchShape, bool, str], str | None] = lambda shape, backward, device: None
    peer: bool = True
    serial: bool = False
    compiled: bool = False


@dataclass(frozen=True)
class Truth:
    """The float64 results of a part of the inputs, by name: `out`, and `v_x` of every tensor x."""

    part: Inputs
    v_out: Tensor
    results: dict[str, Tensor]
    whole: dict[str, Callable[[Tensor], Tensor]]
    """Results of a part that stand as they are in those of the whole: how to take them out."""


@dataclass(frozen=True)
class OperatorBench:
    """Everything of one operator that a benchmark needs beside its spec."""

    spec: Spec
    inputs: Callable[[BenchShape], Inputs]
    work: Callable[[BenchShape, bool], Work]
    truth: Callable[[Inputs, Tensor, bool], Truth]
    peers: tuple[Implementation, ...]
    cotangent: Callable[[Inputs], Tensor] = lambda inputs: inputs["u"].roll(1, dims=1)
    """That of the output, with a field's structure."""
    fixed: tuple[str, ...] = ()
    """Tensors that do not learn in a real run, and get no gradient."""

    def implementations(self) -> tuple[Implementation, ...]:
        """Our kernels, the peers, and our plain PyTorch: where time runs out, that goes first."""
        ours = [self._ours(name) for name in registry.OPERATORS[self.spec.name]]
        kernels = [one for one in ours if not one.peer]
        return (*kernels, *self.peers, *(one for one in reversed(ours) if one.peer))

    def _ours(self, backend: str) -> Implementation:
        def run(inputs: Inputs) -> Tensor:
            return self.spec.function(**inputs, backend=backend)

        def why_not(shape: BenchShape, backward: bool, device: str) -> str | None:
            if backend == "triton" and registry.interpreting():
                return "Triton's interpreter simulates a device; its time says nothing of one"
            if backend == "reference" and backward:
                return "each step's slice has a gradient of the full length: quadratic in L"
            return registry.why_not(self.spec.name, backend, device)

        plain = backend in ("composite", "reference")
        return Implementation(backend, run, why_not, peer=plain, serial=plain)
