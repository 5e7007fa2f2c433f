# SPDX-License-Identifier: MIT
"""`damped_conv` beside its kernel written out and its step: accuracy at L = 65536, memory."""

from __future__ import annotations

import harness
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ssno_kernels import damped_conv, damped_conv_kernel, damped_conv_step, registry
from ssno_kernels.ops.damped_conv.spec import SPEC, make_inputs

LENGTH = 65536
BACKENDS = harness.compared(SPEC)


def long_inputs(dtype: torch.dtype, length: int = LENGTH, channels: int = 3) -> dict:
    """The spectrum of S4D-Lin (arXiv 2206.11893), 1/2 and pi n, and its steps, 1e-3 to 1e-1."""
    generator = torch.Generator().manual_seed(3)
    states = 32
    inputs = {
        "u": torch.randn(1, channels, length, generator=generator),
        "damping": torch.full((channels, states), 0.5),
        "frequency": torch.pi * torch.arange(float(states)).expand(channels, -1).contiguous(),
        "coeff": torch.randn(channels, states, generator=generator, dtype=torch.complex64),
        "step": torch.logspace(-3, -1, channels),
    }
    return inputs if dtype == torch.float32 else harness.in_float64(inputs)


def fft_convolution(u: Tensor, k: Tensor) -> Tensor:
    """sum_j k[j] u_{t-j} along the last axis."""
    n = 2 * u.shape[-1]
    return torch.fft.irfft(torch.fft.rfft(u, n) * torch.fft.rfft(k, n), n)[..., : u.shape[-1]]


def by_fft(u, damping, frequency, coeff, step) -> Tensor:
    """Both sweeps, with the kernel written out."""
    k = damped_conv_kernel(damping, frequency, coeff, step, u.shape[-1])
    return fft_convolution(u, k) + fft_convolution(u.flip(-1), k).flip(-1)


def test_kernel_is_the_sum_of_its_modes():
    inputs = make_inputs(torch.float64, grid=(50,), per_sweep="coeff frequency")
    damping, frequency, coeff, step = (inputs[k] for k in ("damping", "frequency", "coeff", "step"))
    k = damped_conv_kernel(damping, frequency, coeff, step, 50)
    j = torch.arange(50.0, dtype=torch.float64)
    rate = torch.complex(-damping.expand_as(frequency), frequency) * step[:, None]
    expected = 2 * (coeff[..., None] * torch.exp(rate[..., None] * j)).sum(-2).real
    assert k.shape == (2, 3, 50)
    assert harness.relative_error(k, expected) < 1e-14


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_kernel_of_any_length(length):
    inputs = long_inputs(torch.float64)
    parts = (inputs[k] for k in ("damping", "frequency", "coeff", "step"))
    k = damped_conv_kernel(*parts, 10)
    parts = (inputs[k] for k in ("damping", "frequency", "coeff", "step"))
    assert torch.allclose(damped_conv_kernel(*parts, length), k[:, :length])


def test_kernel_refuses_a_length_of_zero():
    inputs = make_inputs(torch.float32)
    with pytest.raises(ValueError, match="length is 0; expected >= 1"):
        damped_conv_kernel(inputs["damping"], inputs["frequency"], inputs["coeff"], 1.0, 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_fft_convolution_with_the_kernel(backend):
    device = harness.need(SPEC.name, backend)
    inputs = long_inputs(torch.float64, 200)
    out = damped_conv(**harness.to_device(inputs, device), backend=backend)
    assert harness.relative_error(out, by_fft(**inputs)) < 1e-12


@pytest.mark.parametrize("backend", BACKENDS)
def test_float32_error_on_a_long_line(backend):
    device = harness.need(SPEC.name, backend)
    if backend == "triton" and registry.interpreting():
        pytest.skip("the interpreter needs many minutes for 65536 steps")
    inputs = long_inputs(torch.float32)
    out = damped_conv(**harness.to_device(inputs, device), backend=backend)
    expected = by_fft(**harness.in_float64(inputs))
    for channel in range(3):  # of every memory, not of the loudest alone
        assert harness.relative_error(out[:, channel], expected[:, channel]) < 1e-5


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "triton"])
def test_float32_gradients_on_a_long_line(backend):
    """Against the same backend in float64, which the table compares with the reference."""
    harness.need(SPEC.name, backend)
    inputs = long_inputs(torch.float32, 16384)
    cotangents = harness.cotangents_for((inputs["u"],))
    expected = harness.run(SPEC, harness.in_float64(inputs), backend, cotangents)
    harness.assert_close(harness.run(SPEC, inputs, backend, cotangents), expected, 1e-5)


def test_steps_are_the_whole():
    """Frame after frame: outputs, the state after them, and all gradients."""
    inputs = make_inputs(torch.float64, grid=(9, 5), dim=2, direction="forward")
    leaves = {k: x.requires_grad_() for k, x in harness.tensors(inputs).items()}
    whole = damped_conv(**inputs, backend="composite")
    modes = {k: x for k, x in leaves.items() if k not in ("u", "initial_state")}
    state, frames = inputs["initial_state"], []
    for frame in inputs["u"].unbind(2):
        out, state = damped_conv_step(state, frame, **modes)
        frames.append(out)
    parts = (torch.stack(frames, dim=2), state)
    cotangents = harness.cotangents_for(whole)
    gradients = [
        torch.autograd.grad(outputs, leaves.values(), cotangents) for outputs in (whole, parts)
    ]
    for expected, value in zip((*whole, *gradients[0]), (*parts, *gradients[1]), strict=True):
        assert harness.relative_error(value, expected) < 1e-12


def test_many_float32_steps_keep_their_phase():
    """A mode that lives for 2000 steps: its phase is right after all of them."""
    inputs = long_inputs(torch.float32, 4000)
    expected = damped_conv(**harness.in_float64(inputs), direction="forward", backend="composite")
    modes = {k: x for k, x in inputs.items() if k != "u"}
    state, frames = torch.zeros(1, 3, 32, dtype=torch.complex64), []
    for sample in inputs["u"].unbind(-1):
        out, state = damped_conv_step(state, sample, **modes)
        frames.append(out)
    assert harness.relative_error(torch.stack(frames, -1), expected) < 1e-5


@pytest.mark.parametrize(
    "change, message",
    [
        ({"state": None}, "state is of type NoneType; expected a Tensor"),
        ({"state": torch.zeros(2, 3, 1, dtype=torch.complex64)}, r"state has shape \(2, 3, 1\)"),
        ({"state": torch.zeros(2, 3, 4)}, "state has dtype torch.float32; expected torch.complex"),
        ({"u_t": torch.zeros(2)}, r"u_t has shape \(2,\); expected \(B, H >= 1, \*others\)"),
        ({"damping": -torch.ones(3, 4)}, "damping has the negative value -1"),
        ({"coeff": torch.zeros(2, 3, 4, dtype=torch.complex64)}, "coeff has shape .*since only"),
        ({"step": -2.0}, "step is -2.0; expected > 0"),
    ],
)
def test_step_refuses(change, message):
    inputs = make_inputs(torch.float32, extras="D")
    inputs["u_t"] = inputs.pop("u")[..., 0]
    inputs["state"] = torch.zeros(2, 3, 4, dtype=torch.complex64)
    damped_conv_step(**inputs)
    with pytest.raises((ValueError, TypeError), match=message):
        damped_conv_step(**(inputs | change))


class LargestTensor(TorchDispatchMode):
    """The size in bytes of the largest tensor that any operation gives."""

    size = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        outputs = func(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves(outputs) if isinstance(x, Tensor)]
        self.size = max(self.size, *(x.untyped_storage().nbytes() for x in tensors), 0)
        return outputs


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_composite_forms_no_array_of_all_modes(boundary):
    """Nothing beyond twice u, where (H, N, L) complex would be 64 times u."""
    inputs = long_inputs(torch.float32, 16384)
    leaves = {k: x.requires_grad_() for k, x in harness.tensors(inputs).items()}
    with LargestTensor() as largest:
        out = damped_conv(**leaves, boundary=boundary, backend="composite")
        torch.autograd.grad(out.square().sum(), leaves.values())
    assert 0 < largest.size <= 2 * inputs["u"].nbytes
