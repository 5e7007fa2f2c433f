# SPDX-License-Identifier: MIT
"""The filters of the alias-free activation: golden taps, alignment, refusals; and the layer."""

from __future__ import annotations

import importlib.util

import pytest
import torch

from ssno_kernels import (
    alias_free_activation,
    alias_free_padding,
    alias_free_resampling,
    kaiser_lowpass,
)
from ssno_kernels.nn import AliasFreeActivation

GOLDEN = {  # the first half of filters of 12 and 24 taps; the second is its mirror image
    12: "0.001329436 0.007639185 -0.022886805 -0.054700021 0.126276973 0.442341232",
    24: "0.00027801 0.001920756 0.004057267 0.003068387 -0.005141209 -0.019587009 "
    "-0.029799893 -0.018439489 0.027711251 0.104888334 0.188295181 0.242748414",
}
PADDING = {(64, 64): (2, 2, (11, 10)), (64, 32): (2, 4, (16, 15)), (32, 64): (4, 2, (18, 15))}


@pytest.mark.parametrize("taps", GOLDEN)
def test_golden_taps(taps):
    half = torch.tensor([float(x) for x in GOLDEN[taps].split()], dtype=torch.float64)
    expected = torch.cat([half, half.flip(0)])
    s, rate = 1.0, taps / 6  # six taps a sample
    h = kaiser_lowpass(taps, s / 2.0001, 0.8 * s - s / 2.0001, rate)
    assert h.dtype == torch.float64
    assert (h - expected).abs().max() < 1e-8
    assert abs(h.sum().item() - 1) < 1e-15


FIRWIN = [
    (12, 0.5, 0.3, 2),
    (25, 3.0, 0.2, 16),
    (7, 10.0, 1.0, 64),
    (40, 1.0, 2.0, 8),
    (1, 1, 1, 4),
]


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="scipy is not installed")
@pytest.mark.parametrize("taps, cutoff, half_width, rate", FIRWIN)
def test_taps_are_those_of_scipy(taps, cutoff, half_width, rate):
    from scipy.signal import firwin

    expected = firwin(taps, cutoff, width=2 * half_width, fs=rate)
    h = kaiser_lowpass(taps, cutoff, half_width, rate)
    assert (h - torch.from_numpy(expected)).abs().max() < 1e-14


@pytest.mark.parametrize("sizes", PADDING)
def test_factors_and_padding(sizes):
    resampling = alias_free_resampling(*sizes)
    assert resampling[2:] == PADDING[sizes]
    assert len(resampling.up_filter) == 6 * resampling.up
    assert len(resampling.down_filter) == 6 * resampling.down
    x = torch.ones(1, 1, sizes[0], dtype=torch.float64)
    assert alias_free_activation(x, *resampling, backend="composite").shape[-1] == sizes[1]


@pytest.mark.parametrize("sizes", [(8, 8), (16, 8), (8, 16), (12, 4), (5, 20)])
@pytest.mark.parametrize("taps", [3, 6])
def test_the_output_is_not_displaced(sizes, taps):
    """A field that is symmetric about the middle of its axis comes out so."""
    resampling = alias_free_resampling(*sizes, taps=taps)
    x = torch.randn(1, 2, sizes[0], dtype=torch.float64)
    out = alias_free_activation(x + x.flip(-1), *resampling, backend="composite")
    assert out.shape[-1] == sizes[1]
    assert (out - out.flip(-1)).abs().max() < 1e-12


REFUSED = {
    "sizes": (lambda: alias_free_padding(8, 5, 2, 4, 12, 24), "size_out is 5; expected 8 . 2 / 4"),
    "odd-taps": (
        lambda: alias_free_padding(8, 8, 2, 2, 12, 13),
        "down_filter has 13 taps; expected an even number with 12 taps of up_filter",
    ),
    "even-taps": (lambda: alias_free_padding(8, 8, 2, 2, 13, 12), "expected an odd number"),
    "up-0": (lambda: alias_free_padding(8, 8, 0, 2, 12, 12), "up is 0; expected at least 1"),
    "ratio": (lambda: alias_free_resampling(48, 64), "size_in is 48; expected a divisor of"),
    "size-0": (lambda: alias_free_resampling(0), "size_in is 0; expected at least 1"),
    "taps": (lambda: kaiser_lowpass(0, 1, 1, 4), "taps is 0; expected at least 1"),
    "cutoff": (lambda: kaiser_lowpass(12, 2, 1, 4), "cutoff is 2; expected one between 0 and"),
    "width": (lambda: kaiser_lowpass(12, 1, -1, 4), "half_width is -1"),
    "rate": (lambda: kaiser_lowpass(12, 1, 1, 0), "rate is 0; expected a positive number"),
    "layer": (
        lambda: AliasFreeActivation(8, 4)(torch.ones(1, 1, 8, 5)),
        r"x has shape \(1, 1, 8, 5\); expected axes of the grid that are multiples of 2",
    ),
}


@pytest.mark.parametrize("call, match", REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(call, match):
    with pytest.raises(ValueError, match=match):
        call()


@pytest.mark.parametrize(
    "call", [lambda: kaiser_lowpass(12.0, 1, 1, 4), lambda: alias_free_resampling(8.0)]
)
def test_wrong_types_are_refused(call):
    with pytest.raises(TypeError, match="expected an integer"):
        call()


@pytest.mark.parametrize("sizes", [(8, 8), (8, 4), (8, 16)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_layer_serves_grids_of_any_size(sizes, axes):
    layer = AliasFreeActivation(*sizes, channels=2)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor([0.5, -0.5]))
    for n in (8, 6):
        x = torch.randn(1, 2, *[n] * axes)
        out = layer(x)
        assert out.shape == (1, 2, *[n * sizes[1] // sizes[0]] * axes)
        resampling = alias_free_resampling(*sizes)
        filters = (f.float() for f in resampling[:2])
        expected = alias_free_activation(x, *filters, *resampling[2:], layer.bias)
        assert torch.equal(out, expected)


def test_a_layer_without_bias_has_no_parameters():
    layer = AliasFreeActivation(8, activation="silu", gain=1.0)
    assert not list(layer.parameters()) and not layer.state_dict()
    assert layer(torch.randn(1, 3, 8)).shape == (1, 3, 8)
    assert "8, 8, None, activation='silu'" in repr(layer)


def test_a_layer_keeps_its_filters_through_casts():
    layer = AliasFreeActivation(8).half().double()
    assert torch.equal(layer.up_filter, alias_free_resampling(8).up_filter)
    half = AliasFreeActivation(8, channels=1).half()
    assert half.up_filter.dtype == torch.float32 and half.bias.dtype == torch.float16
    assert half(torch.randn(1, 1, 8, dtype=torch.float16)).dtype == torch.float16


def test_a_layer_trains():
    layer = AliasFreeActivation(8, 4, channels=3)
    layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    assert layer.bias.grad.norm() > 0
