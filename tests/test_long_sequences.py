# SPDX-License-Identifier: MIT
"""`selective_scan` where sizes matter: error at L = 65536, memory, threads over the length."""

from __future__ import annotations

import os
import subprocess
import sys

import harness
import pytest
import torch

from ssno_kernels import registry
from ssno_kernels.ops.selective_scan.spec import SPEC, make_inputs

LENGTH = 65536


def long_inputs(dtype: torch.dtype, is_complex: bool = False) -> dict:
    """States that remember hundreds of steps, so that rounding has time to add up.

    Complex: the spectrum of S4D-Lin (arXiv 2206.11893), -1/2 + i pi n, and its step sizes.
    """
    states = 16 if is_complex else 4
    inputs = make_inputs(
        dtype, batch=1, channels=3, states=states, length=LENGTH, is_complex=is_complex
    )
    if not is_complex:
        return inputs | {"A": 0.01 * inputs["A"]}
    generator = torch.Generator().manual_seed(3)
    step = 1e-3 * 100 ** torch.rand(inputs["delta"].shape, generator=generator)
    inputs |= {"delta_bias": None, "delta_softplus": False, "delta": step.to(dtype)}
    spectrum = torch.complex(torch.full((states,), -0.5), torch.pi * torch.arange(float(states)))
    return inputs | {"A": spectrum.to(inputs["A"].dtype).expand(3, -1).contiguous()}


@pytest.mark.parametrize("is_complex", [False, True], ids=["real", "complex"])
@pytest.mark.parametrize("backend", harness.compared(SPEC))
def test_float32_error_on_a_long_sequence(backend, is_complex):
    device = harness.need(SPEC.name, backend)
    if backend == "triton" and registry.interpreting():
        pytest.skip("the interpreter needs many minutes for 65536 steps")
    inputs = long_inputs(torch.float32, is_complex)
    doubled = harness.in_float64(inputs)
    outputs = harness.as_tuple(SPEC.function(**doubled, backend="reference"))
    expected = {f"out{i}": o for i, o in enumerate(outputs)}
    results = harness.run(SPEC, harness.to_device(inputs, device), backend)
    harness.assert_close(results, expected, 1e-5)


def test_float32_gradients_on_a_long_sequence():
    """Of the cpu kernels, against their own in float64, which other tests compare."""
    harness.need(SPEC.name, "cpu")
    inputs = long_inputs(torch.float32)
    outputs = SPEC.function(**inputs, backend="cpu")
    cotangents = harness.cotangents_for(outputs)
    expected = harness.run(SPEC, harness.in_float64(inputs), "cpu", cotangents)
    harness.assert_close(harness.run(SPEC, inputs, "cpu", cotangents), expected, 1e-5)


@pytest.mark.parametrize("channels", [1, 40], ids=["split-over-length", "split-over-channels"])
def test_any_number_of_threads(channels):
    """Bitwise the same from run to run; across thread counts, which split time, to rounding."""
    harness.need(SPEC.name, "cpu")
    inputs = make_inputs(torch.float64, batch=1, channels=channels, length=20000, groups=1)
    expected, cotangents = None, harness.cotangents_for(SPEC.function(**inputs, backend="cpu"))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            first, second = (harness.run(SPEC, inputs, "cpu", cotangents) for _ in range(2))
            assert all(torch.equal(first[name], second[name]) for name in first)
            expected = expected or first
            harness.assert_close(first, expected, SPEC.tolerances[torch.float64])
    finally:
        torch.set_num_threads(before)


MEASURE = """
import sys
import torch
from ssno_kernels import selective_scan

def status(key):  # of the whole process, so that scratch memory of the kernels counts
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith(key))

def step(inputs, v):
    leaves = {k: x.requires_grad_() for k, x in inputs.items() if isinstance(x, torch.Tensor)}
    out = selective_scan(**(inputs | leaves), backend=sys.argv[1])
    return [out, *torch.autograd.grad(out, leaves.values(), v)]

def make(length, channels=128, states=16):  # in float32 at once: make_inputs passes by float64
    shapes = {"u": (1, channels, length), "delta": (1, channels, length), "A": (channels, states),
              "B": (1, states, length), "C": (1, states, length), "D": (channels,),
              "z": (1, channels, length), "delta_bias": (channels,)}
    inputs = {name: torch.randn(shape) for name, shape in shapes.items()}
    inputs["A"].abs_().neg_()
    return inputs | {"delta_softplus": True}, torch.ones_like(inputs["u"])

step(*make(64))
inputs, v = make(int(sys.argv[2]))
tensors = [x for x in (*inputs.values(), v) if isinstance(x, torch.Tensor)]
before = status("VmRSS:")
assert status("VmHWM:") < before + 2**24, "making the inputs took more than keeping them"
tensors += step(inputs, v)
print((status("VmHWM:") - before) / sum(x.numel() * x.element_size() for x in tensors))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's /proc")
@pytest.mark.parametrize("backend, length", [("cpu", 65536), ("composite", 2048)])
def test_peak_memory_of_a_training_step(backend, length):
    """At most 1.5 times inputs, outputs and gradients; the composite shows that more is seen."""
    harness.need(SPEC.name, backend)
    command = [sys.executable, "-c", MEASURE, backend, str(length)]
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert run.returncode == 0, run.stderr
    ratio = float(run.stdout)
    assert ratio <= 1.5 if backend == "cpu" else ratio > 10
