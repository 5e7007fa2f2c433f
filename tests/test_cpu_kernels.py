# SPDX-License-Identifier: MIT
"""What only the cpu backend has: its elementary functions, a kernel per instruction set."""

from __future__ import annotations

import math

import harness
import pytest
import torch

from ssno_kernels import selective_scan
from ssno_kernels.ops.selective_scan.spec import SPEC

ISAS = ("avx512", "avx2", "plain")  # one that the processor lacks gives the next that it has


@pytest.fixture(params=ISAS)
def isa(request, monkeypatch):
    harness.need(SPEC.name, "cpu")
    monkeypatch.setenv("SSNO_ISA", request.param)
    return request.param


def decay(step: torch.Tensor, A: torch.Tensor) -> torch.Tensor:
    """exp(step A) for each value of step, as the state that one step without input leaves of 1."""
    channels = 4096
    step = step.reshape(-1, channels, 1)
    zeros = torch.zeros(channels, 1, dtype=A.dtype)
    _, state = selective_scan(
        torch.zeros_like(step),
        step,
        A.expand(channels, 1),
        zeros,
        zeros,
        initial_state=torch.ones(len(step), channels, 1, dtype=A.dtype),
        return_final_state=True,
        backend="cpu",
    )
    return state.flatten()


def arguments(dtype: torch.dtype, largest: float) -> torch.Tensor:
    """Over the whole range, and close to 0, where decays of a long memory lie."""
    generator = torch.Generator().manual_seed(0)
    wide = (2 * torch.rand(2**18, generator=generator, dtype=torch.float64) - 1) * largest
    close = wide * 10.0 ** (-8 * torch.rand(2**18, generator=generator, dtype=torch.float64))
    return torch.cat([wide, close]).to(dtype)


@pytest.mark.parametrize("dtype, largest", [(torch.float32, 125.9), (torch.float64, 1021.9)])
def test_exp2_error(isa, dtype, largest):
    x = arguments(dtype, largest)
    unit = torch.tensor([[math.log(2)]], dtype=dtype)  # its log2(e)-fold rounds to 1
    result = decay(x, unit)
    if dtype == torch.float32:
        expected = torch.exp2(x.double())
        ulp = torch.exp2(expected.log2().floor() - 23)
        bound = 2 if isa == "plain" else 1  # without fused multiply-add, one rounding more
        assert ((result.double() - expected).abs() / ulp).max() <= bound
    else:  # torch's own is within 1 ulp, 2.2e-16 at most
        expected = torch.exp2(x)
        assert ((result - expected).abs() / expected).max() <= 3 * 2.3e-16


@pytest.mark.parametrize("dtype, bound", [(torch.float32, 1.5e-7), (torch.float64, 4e-16)])
def test_rotation(isa, dtype, bound):
    """cos and sin to about an ulp of 1, however many turns the phase has made."""
    x = arguments(dtype, 1000.0)
    result = decay(x, torch.complex(torch.zeros(1, 1, dtype=dtype), torch.ones(1, 1, dtype=dtype)))
    if dtype == torch.float32:
        x = x.double()
    expected = torch.complex(x.cos(), x.sin())
    if isa == "plain" and dtype == torch.float64:
        bound = 1.2e-13  # without fused multiply-add: half an ulp of a phase of 1000
    assert (result - expected).abs().max() <= bound


def test_decay_at_the_ends(isa):
    x = torch.tensor([0.0, -0.0, -1000.0, 1000.0, math.nan]).repeat(4096)
    result = decay(x, torch.ones(1, 1)).reshape(-1, 5)[0]
    assert result[:4].tolist() == [1.0, 1.0, 0.0, math.inf]
    assert result[4].isnan()
    assert not decay(torch.ones(4096), torch.full((1, 1), -math.inf)).any()


CASES = [(torch.float32, sample) for sample in SPEC.samples] + [
    (torch.float16, sample) for sample in SPEC.samples if sample.name in SPEC.core
]


@pytest.mark.parametrize(
    "dtype, sample", [pytest.param(*c, id=f"{str(c[0])[6:]}-{c[1].name}") for c in CASES]
)
def test_instruction_sets(isa, dtype, sample):
    inputs = sample.make(dtype)
    expected, cotangents = harness.truth(SPEC, inputs)
    results = harness.run(SPEC, inputs, "cpu", cotangents)
    harness.assert_close(results, expected, SPEC.tolerances[dtype])
