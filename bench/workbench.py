# SPDX-License-Identifier: MIT
"""Measures a row: first whether it is right, then its memory, and then its time."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import torch
from torch import Tensor

from ssno_kernels.ops.spec import BenchShape, Inputs

from . import limits, memory
from .rows import Profile, Result, Row, result_of
from .subjects import Truth

MAX_ROUNDS = 100


class Workbench:
    """Holds the inputs of one shape at a time, and what earlier rows say of later ones."""

    def __init__(self, profile: Profile, device: str):
        self.profile, self.device = profile, device
        self._operator, self._start = "", 0.0  # what is measured, and since when
        self.rates = limits.measure(device)
        self.results: list[Result] = []
        self._shape: BenchShape | None = None
        self._compiled = 0
        self._cost: dict[tuple[str, str, bool], tuple[float, float, float]] = {}

    def measure(self, row: Row, benchmark) -> Result:
        """One row; `benchmark` is pytest-benchmark's fixture."""
        result = result_of(row)
        self.results.append(result)
        if row.bench.spec.name != self._operator:
            self._operator, self._start = row.bench.spec.name, limits.now(self.device)
        try:
            reason = self._why_not(row)
            if reason is not None:
                result.status, result.reason = "left out", reason
            else:
                self._prepare(row)
                self._measure(row, result, benchmark)
        except Exception as error:
            result.status = "failed"
            result.reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
            result.seconds = None
        return result

    def _prepare(self, row: Row) -> None:
        if self._shape is row.shape:
            return
        self._truth: dict[bool, Truth] = {}
        self._inputs = {
            k: x.to(self.device) if isinstance(x, Tensor) else x
            for k, x in row.bench.inputs(row.shape).items()
        }
        self._v_out = row.bench.cotangent(self._inputs)
        self._shape = row.shape
        self.rates = self.rates.best(limits.measure(self.device))

    def _measure(self, row: Row, result: Result, benchmark) -> None:
        bound = row.bench.spec.tolerances[row.shape.dtype]
        if row.backward not in self._truth:
            self._truth[row.backward] = row.bench.truth(self._inputs, self._v_out, row.backward)
        truth = self._truth[row.backward]
        if not row.implementation.compiled:  # which would be compiled anew for the part
            part = _call(row, truth.part, truth.v_out)()
            result.errors = _errors(part, truth.results)
        call = _call(row, self._inputs, self._v_out)
        if _is_right(result, bound):
            whole = self._first_run(row, result, call)
            taken = {name: take(whole[name]) for name, take in truth.whole.items()}
            for name, error in _errors(taken, truth.results).items():
                result.errors[name] = _worse(result.errors.get(name, 0.0), error)
            del whole, taken
        if not _is_right(result, bound):
            worst = max(result.errors, key=lambda k: _worse(0.0, result.errors[k]))
            result.status = "wrong"
            result.reason = f"{worst} is off by {result.errors[worst]:.1e}; allowed is {bound:.0e}"
            return
        self._time(row, result, call, benchmark)

    def _first_run(self, row: Row, result: Result, call: Callable[[], dict]) -> dict[str, Tensor]:
        """The results of the whole; notes the memory that they took, and what the next will."""
        if row.implementation.compiled:
            call()  # what compiling takes is not the call's

        def clocked() -> tuple[dict[str, Tensor], float]:
            start = limits.now(self.device)
            return call(), limits.now(self.device) - start

        (whole, seconds), result.extra_bytes = memory.peak(clocked, self.device)
        held = sum(x.nbytes for x in (*self._inputs.values(), whole["out"]) if hasattr(x, "nbytes"))
        result.extra_over_inputs_and_output = result.extra_bytes / held
        self._note_cost(row, seconds, result.extra_bytes)
        result.rounds = max(1, min(MAX_ROUNDS, round(self.profile.timed_seconds / seconds)))
        return whole

    def _time(self, row: Row, result: Result, call: Callable[[], dict], benchmark) -> None:
        def timed() -> None:
            call()
            limits.synchronise(self.device)

        benchmark.pedantic(timed, rounds=result.rounds)
        stats = benchmark.stats.stats
        result.work = row.bench.work(row.shape, row.backward)
        result.seconds, result.spread = stats.median, stats.iqr
        self._note_cost(row, stats.median, result.extra_bytes)

    def _note_cost(self, row: Row, seconds: float, extra: int) -> None:
        """Keep the least that this kind of row has cost by state and by step, and its memory."""
        states, steps = _sizes(row)
        by_state, by_step, _ = self._cost.get(_kind(row), (float("inf"), float("inf"), 0))
        self._cost[_kind(row)] = (
            min(by_state, seconds / states),
            min(by_step, seconds / steps),
            extra / states,
        )

    def _why_not(self, row: Row) -> str | None:
        """Why a row is left out: its implementation cannot serve, or it needs too much here."""
        implementation, shape = row.implementation, row.shape
        reason = implementation.why_not(shape, row.backward, self.device)
        if reason is not None:
            return reason
        if (
            implementation.peer
            and limits.now(self.device) - self._start > self.profile.peer_seconds
        ):
            spent = f"{self.profile.peer_seconds:.0f} s for peers of {self._operator}"
            return f"the {self.profile.name} profile's {spent} are spent"
        if implementation.compiled:
            if self._compiled == self.profile.compiles:
                return f"it would have to compile again, too long for the {self.profile.name} run"
            self._compiled += 1
        cost = self._cost.get(_kind(row))
        if cost is None:
            return None
        states, steps = _sizes(row)
        seconds, extra = cost[0] * states, cost[2] * states
        if implementation.serial:
            seconds = max(seconds, cost[1] * steps)
        if seconds > self.profile.row_seconds:
            return (
                f"a call would take about {seconds:.0f} s, going by the shapes before; the "
                f"{self.profile.name} profile allows {self.profile.row_seconds:.0f} s"
            )
        free = _free_memory(self.device)
        if extra > 0.7 * free:
            return f"it would need about {extra / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free"
        return None


def _kind(row: Row) -> tuple[str, str, bool]:
    """Rows of one kind differ in their shape alone."""
    return row.bench.spec.name, row.implementation.name, row.backward


def _sizes(row: Row) -> tuple[int, int]:
    """The number of states over all elements, and of steps one after another."""
    sizes = row.shape.sizes
    return sizes["B"] * sizes["D"] * sizes["L"] * sizes["N"], sizes["L"]


def _free_memory(device: str) -> int:
    if device == "cpu":
        return psutil.virtual_memory().available
    return torch.cuda.mem_get_info()[0]


def _call(row: Row, inputs: Inputs, v_out: Tensor) -> Callable[[], dict[str, Tensor]]:
    """A call that gives `out`, and with the backward also `v_x` of every input x that learns."""
    implementation, fixed = row.implementation, row.bench.fixed
    if not row.backward:

        def forward() -> dict[str, Tensor]:
            with torch.no_grad():
                return {"out": implementation.run(inputs)}

        return forward
    leaves = {
        k: x.detach().requires_grad_()
        for k, x in inputs.items()
        if isinstance(x, Tensor) and k not in fixed
    }

    def forward_and_backward() -> dict[str, Tensor]:
        out = implementation.run(inputs | leaves)
        gradients = torch.autograd.grad(out, list(leaves.values()), v_out)
        return {"out": out.detach()} | {f"v_{k}": g for k, g in zip(leaves, gradients, strict=True)}

    return forward_and_backward


def _errors(results: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """||x - x_ref|| / ||x_ref|| of every result, in float64."""
    return {
        name: ((x.cpu() - expected[name]).norm() / expected[name].norm()).item()  # it is float64
        for name, x in results.items()
    }


def _worse(a: float, b: float) -> float:
    """The larger error; what is not a number is the largest."""
    return max(a, b) if b == b and a == a else float("inf")


def _is_right(result: Result, bound: float) -> bool:
    return all(error <= bound for error in result.errors.values())
