# SPDX-License-Identifier: MIT
"""What is timed: the profiles, their rows, and what a row came to."""

from __future__ import annotations

from dataclasses import dataclass, field
from fnmatch import fnmatch

from ssno_kernels.ops.spec import BenchShape

from . import alias_free_activation, cross_selective_scan, damped_conv, selective_scan
from .subjects import Implementation, OperatorBench, Work

OPERATORS = (
    selective_scan.BENCH,
    cross_selective_scan.BENCH,
    damped_conv.BENCH,
    alias_free_activation.BENCH,
)
SMOKE = (
    BenchShape("tiny", dict(B=2, D=8, L=64, N=4, G=4)),
    BenchShape("tiny-long", dict(B=1, D=4, L=300, N=4, G=1)),
)


@dataclass(frozen=True)
class Profile:
    """How much is timed, and for how long."""

    name: str
    row_seconds: float  # a row of which one call would take longer is left out
    peer_seconds: float  # after this long with an operator, only our own kernels are timed
    timed_seconds: float  # rounds are added until a row has taken this long
    compiles: int  # rows for which peers may be compiled, half a minute each

    def shapes(self, bench: OperatorBench) -> tuple[BenchShape, ...]:
        if self.name == "smoke":
            return SMOKE
        return tuple(s for s in bench.spec.bench_shapes if s.quick or self.name == "full")


PROFILES = {
    p.name: p
    for p in (
        Profile("smoke", row_seconds=5, peer_seconds=60, timed_seconds=0.01, compiles=0),
        Profile("quick", row_seconds=8, peer_seconds=60, timed_seconds=1, compiles=1),
        Profile("full", row_seconds=120, peer_seconds=7200, timed_seconds=3, compiles=100),
    )
}


@dataclass(frozen=True)
class Row:
    """One implementation on one shape, forward or forward and backward."""

    bench: OperatorBench
    shape: BenchShape
    backward: bool
    implementation: Implementation
    device: str

    @property
    def mode(self) -> str:
        return "forward+backward" if self.backward else "forward"

    @property
    def case(self) -> str:
        """The row's name without its implementation."""
        return f"{self.bench.spec.name} {self.shape.name} {self.mode}"

    def __str__(self) -> str:
        return f"{self.case} {self.implementation.name}"


@dataclass
class Result:
    """What a row came to; without a time, `status` and `reason` say why."""

    operator: str
    shape: str
    sizes: dict[str, int]
    dtype: str
    mode: str
    implementation: str
    peer: bool
    status: str = "timed"  # or: wrong, left out, failed
    reason: str = ""
    errors: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None
    spread: float | None = None  # interquartile range, seconds
    rounds: int = 0
    work: Work | None = None  # the least that the call must do
    ns_per_element: float | None = None
    gb_per_s: float | None = None
    limit_seconds: float | None = None
    limit_by: str = ""
    fraction_of_limit: float | None = None
    extra_bytes: int | None = None
    extra_over_inputs_and_output: float | None = None
    times_faster_than: dict[str, float] = field(default_factory=dict)

    @property
    def error(self) -> float | None:
        """The largest relative error among the output and the gradients."""
        return max(self.errors.values(), default=None)


def result_of(row: Row) -> Result:
    return Result(
        row.bench.spec.name,
        row.shape.name,
        row.shape.sizes,
        str(row.shape.dtype).removeprefix("torch."),
        row.mode,
        row.implementation.name,
        row.implementation.peer,
    )


def rows(profile: Profile, device: str, only: str = "*", backends: str = "*") -> list[Row]:
    """The rows of a profile whose name matches `only`; `backends` picks implementations."""
    wanted = [name.strip() for name in backends.split(",")]
    every = [
        Row(bench, shape, backward, implementation, device)
        for bench in OPERATORS
        for shape in profile.shapes(bench)
        for backward in (False, True)
        for implementation in bench.implementations()
    ]
    return [
        row
        for row in every
        if fnmatch(str(row), f"*{only}*")
        and any(fnmatch(row.implementation.name, pattern) for pattern in wanted)
    ]
