# SPDX-License-Identifier: MIT
"""Properties of `alias_free_activation`, and what only its cpu kernels have."""

from __future__ import annotations

import harness
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssno_kernels import BackendError, alias_free_activation, alias_free_resampling
from ssno_kernels.ops.alias_free_activation.spec import SPEC, make_inputs

BACKENDS = [b for b in harness.compared(SPEC) if b != "triton"]  # its interpreter is slow
each_backend = pytest.mark.parametrize("backend", BACKENDS)
TINY = 1e-12
of_few = harness.property_of(8)


def resampled(x, backend, size_in=None, size_out=None, **options):
    n = size_in or x.shape[-1]
    device = harness.need(SPEC.name, backend)
    resampling = alias_free_resampling(n, size_out or n)
    filters = (f.to(device, x.dtype) for f in resampling[:2])
    return alias_free_activation(
        x.to(device), *filters, *resampling[2:], backend=backend, **options
    ).cpu()


def above_limit(signal: torch.Tensor, limit: float) -> float:
    """The share of a signal's energy above `limit` cycles a sample, away from its ends."""
    n = signal.shape[-1]
    middle = signal[..., n // 4 : n - n // 4]
    window = torch.hann_window(middle.shape[-1], periodic=True, dtype=signal.dtype)
    energy = torch.fft.rfft(middle * window).abs() ** 2
    frequency = torch.fft.rfftfreq(middle.shape[-1])
    return (energy[..., frequency > limit].sum() / energy.sum()).item()


@each_backend
@given(cycles=st.floats(0.21, 0.24), phase=st.floats(0, 6.28))
@of_few
def test_energy_above_the_band_limit(backend, cycles, phase):
    """The fourth harmonic of a wave is too high for the grid: a pointwise nonlinearity folds it
    back as another frequency, this one leaves it out. (At twice the rate the eighth is too high.)
    """
    t = torch.arange(512, dtype=torch.float64)
    x = torch.sin(2 * torch.pi * cycles * t + phase)[None, None]
    out = resampled(x, backend)
    pointwise = torch.nn.functional.leaky_relu(x, 0.2)
    window = torch.hann_window(256, periodic=True, dtype=torch.float64)
    frequency = torch.fft.rfftfreq(256)

    def false_energy(y):
        """Between the mean and the wave: nothing of x lies there, so it is folded back."""
        energy = torch.fft.rfft(y[..., 128:384] * window).abs() ** 2
        between = (frequency > 0.02) & (frequency < cycles - 0.03)
        return (energy[..., between].sum() / energy.sum()).item()

    assert false_energy(out) < 0.1 * false_energy(pointwise)


@each_backend
def test_halving_removes_what_the_coarse_grid_cannot_hold(backend):
    t = torch.arange(512, dtype=torch.float64)
    x = torch.sin(2 * torch.pi * 0.45 * t)[None, None]
    kept = resampled(x, backend, 512, 256, negative_slope=1.0, gain=1.0)
    assert kept[..., 64:192].norm() < 0.02 * x[..., 128:384:2].norm()
    assert above_limit(x[..., ::2], 0.04) > 0.9  # as a strided copy would keep it


@each_backend
@given(shift=st.integers(-9, 9), activation=st.sampled_from(["leaky_relu", "gelu"]))
@of_few
def test_translation_equivariance(backend, shift, activation):
    """Shifting by whole samples and filtering commute, away from the ends of the axes."""
    x = torch.randn(1, 1, 60, 48, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    out = resampled(x, backend, 48, activation=activation)
    moved = resampled(x.roll((shift, -shift), (2, 3)), backend, 48, activation=activation)
    inside = (..., slice(20, 40), slice(20, 28))
    expected = out.roll((shift, -shift), (2, 3))
    assert harness.relative_error(moved[inside], expected[inside]) < TINY


@each_backend
@given(
    grid=st.lists(st.integers(1, 6), min_size=1, max_size=3),
    up=st.integers(1, 4),
    down=st.integers(1, 4),
    taps=st.tuples(st.integers(1, 26), st.integers(1, 26)),
    low=st.integers(-4, 30),
    high=st.integers(-4, 30),
    channels=st.sampled_from([1, 3, 9]),
    last=st.booleans(),
    seed=st.integers(0, 1000),
)
@harness.property_of(25)
def test_any_filters_and_padding(backend, grid, up, down, taps, low, high, channels, last, seed):
    high = max(high, sum(taps) - 1 - min(grid) * up - low)  # so that there is an output
    inputs = make_inputs(
        torch.float64,
        batch=1,
        channels=channels,
        grid=tuple(grid),
        up=up,
        down=down,
        taps=taps,
        padding=(low, high),
        activation="tanh",
        seed=seed,
    )
    if last:
        inputs["x"] = inputs["x"].movedim(1, -1).contiguous().movedim(-1, 1)
    expected, cotangents = harness.truth(SPEC, inputs)
    harness.need(SPEC.name, backend)
    try:
        results = harness.run(SPEC, inputs, backend, cotangents)
    except BackendError:  # a tile in float64 on three axes can exceed a block's memory
        assert backend == "cuda" and len(grid) == 3 and max(taps) > 6
        return
    for name, reference in expected.items():
        assert harness.relative_error(results[name], reference) < TINY or reference.norm() < TINY


@pytest.mark.parametrize("activation", ["leaky_relu", "silu", "gelu", "tanh"])
@pytest.mark.parametrize("dtype, bound", [(torch.float32, 4e-7), (torch.float64, 1e-15)])
@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
def test_nonlinearities_of_the_cpu_kernels(monkeypatch, isa, activation, dtype, bound):
    """Value and slope, each relative to itself, from small to large arguments."""
    harness.need(SPEC.name, "cpu")
    monkeypatch.setenv("SSNO_ISA", isa)
    x = torch.cat([torch.logspace(-6, 0.7, 2000), torch.linspace(-8, 8, 2000)]).to(dtype)
    x = torch.cat([x, -x])[None, None].requires_grad_()
    one = torch.ones(1, dtype=dtype)
    options = {"activation": activation, "gain": 1.0}
    results = []
    for inputs, backend in ((x, "cpu"), (x.double(), "reference")):
        filters = (one.to(inputs.dtype),) * 2
        out = alias_free_activation(inputs, *filters, 1, 1, (0, 0), **options, backend=backend)
        (v_x,) = torch.autograd.grad(out.sum(), x)
        results.append((out.detach().double(), v_x.double()))
    (out, v_x), (expected, v_expected) = results
    scale = torch.maximum(expected.abs(), 0.1 * x.detach().abs())  # the reference cancels below it
    assert ((out - expected).abs() / scale).max() < 4 * bound
    assert (v_x - v_expected).abs().max() < 2 * bound


@pytest.mark.parametrize("backend", ["reference", *harness.compared(SPEC)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "activation, values, slopes",
    [
        ("leaky_relu", [1e4, -2e3], [1, 0.2]),
        ("silu", [1e4, 0], [1, 0]),
        ("gelu", [1e4, 0], [1, 0]),
        ("tanh", [1, -1], [0, 0]),
    ],
)
def test_large_arguments_do_not_overflow(backend, dtype, activation, values, slopes):
    device = harness.need(SPEC.name, backend)
    x = torch.tensor([1e4, -1e4, 1e30, -1e30], dtype=dtype, device=device)[None, None]
    one = torch.ones(1, dtype=dtype, device=device)
    out = alias_free_activation(
        x.requires_grad_(), one, one, 1, 1, (0, 0), activation=activation, gain=1.0, backend=backend
    )
    (v_x,) = torch.autograd.grad(out.sum(), x)
    assert out.isfinite().all()
    assert torch.allclose(out[0, 0, :2].cpu(), torch.tensor(values, dtype=dtype))
    assert torch.allclose(v_x[0, 0].cpu(), torch.tensor(slopes * 2, dtype=dtype))


@pytest.mark.parametrize("isa", ["avx512", "avx2", "plain"])
@pytest.mark.parametrize("sample", SPEC.samples, ids=lambda s: s.name)
def test_instruction_sets(monkeypatch, isa, sample):
    harness.need(SPEC.name, "cpu")
    monkeypatch.setenv("SSNO_ISA", isa)
    for dtype in (torch.float32, torch.float16):
        inputs = sample.make(dtype)
        expected, cotangents = harness.truth(SPEC, inputs)
        results = harness.run(SPEC, inputs, "cpu", cotangents)
        harness.assert_close(results, expected, SPEC.tolerances[dtype])


@pytest.mark.parametrize("threads", [1, 3, 5])
@pytest.mark.parametrize(
    "sizes",
    [dict(grid=(150,)), dict(grid=(90, 6)), dict(grid=(60, 4, 2)), dict(grid=(5, 6), channels=3)],
    ids=["1-d", "2-d", "3-d", "planes"],
)
def test_tiles_of_many_threads(threads, sizes):
    harness.need(SPEC.name, "cpu")
    inputs = make_inputs(torch.float64, **({"batch": 1, "channels": 1} | sizes))
    expected, cotangents = harness.truth(SPEC, inputs)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        results = harness.run(SPEC, inputs, "cpu", cotangents)
    finally:
        torch.set_num_threads(before)
    harness.assert_close(results, expected, TINY)


@pytest.mark.parametrize("backend", ["cpu", "composite"])
def test_long_rows_are_cut_into_tiles(backend):
    """The whole equals its two halves with enough of their neighbour's samples."""
    harness.need(SPEC.name, backend)
    inputs = make_inputs(torch.float64, batch=1, channels=1, grid=(3, 30_000))
    out = SPEC.function(**inputs, backend=backend)
    x = inputs["x"]
    left = SPEC.function(**(inputs | {"x": x[..., :15_020].contiguous()}), backend=backend)
    right = SPEC.function(**(inputs | {"x": x[..., 14_980:].contiguous()}), backend=backend)
    joined = torch.cat([left[..., :15_000], right[..., 20:]], dim=-1)
    assert harness.relative_error(out, joined) < TINY


@each_backend
def test_nan_stays_within_reach_of_the_filters(backend):
    inputs = make_inputs(torch.float32, batch=1, channels=2, grid=(40, 40))
    inputs["x"][0, 0, 20, 20] = float("nan")
    out = SPEC.function(**inputs, backend=backend)
    assert out[0, 1].isfinite().all()
    far = torch.ones(40, 40, dtype=torch.bool)
    far[8:33, 8:33] = False
    assert out[0, 0][far].isfinite().all() and out[0, 0, 20, 20].isnan()


def test_filters_without_gradients_cost_no_composite(monkeypatch):
    """The way through PyTorch operations is for filters that learn."""
    harness.need(SPEC.name, "cpu")
    from ssno_kernels.ops.alias_free_activation import composite

    inputs = make_inputs(torch.float32)
    inputs["x"].requires_grad_()
    monkeypatch.setattr(composite, "filter_cotangents", None)
    SPEC.function(**inputs, backend="cpu").sum().backward()
    assert inputs["x"].grad.isfinite().all()
