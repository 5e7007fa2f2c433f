# SPDX-License-Identifier: MIT
"""What only the Triton backend has: chunks of length that run at once, tiles, tables of its own."""

from __future__ import annotations

import harness
import pytest
import torch

from ssno_kernels import BackendError, registry
from ssno_kernels.ops.alias_free_activation import spec as alias
from ssno_kernels.ops.cross_selective_scan import spec as cross
from ssno_kernels.ops.damped_conv import spec as convolution
from ssno_kernels.ops.damped_conv.spec import EVERY
from ssno_kernels.ops.selective_scan.spec import SPEC, make_inputs


@pytest.fixture
def kernels():
    harness.need("selective_scan", "triton")
    from ssno_kernels.ops.selective_scan import kernel_triton_launch

    return kernel_triton_launch


@pytest.fixture
def damped():
    """What plans the launches of damped_conv."""
    harness.need("damped_conv", "triton")
    from ssno_kernels.ops.damped_conv import kernel_triton_plan

    return kernel_triton_plan


def run(inputs, gradients=True, spec=SPEC):
    device = harness.device_of("triton")
    expected, cotangents = harness.truth(spec, inputs, gradients)
    results = harness.run(
        spec, harness.to_device(inputs, device), "triton", cotangents if gradients else None
    )
    return results, expected


CHUNKED = {
    "real": {},
    "reverse": {"reverse": True, "kind_B": "grouped", "kind_C": "constant"},
    "complex": {"is_complex": True, "states": 3, "reverse": True},
    "low-rank": {"rank": 2},
}


@pytest.mark.parametrize("options", CHUNKED.values(), ids=CHUNKED)
def test_chunks_agree_with_the_reference(kernels, monkeypatch, options):
    """Three chunks, the last of them short; states and their adjoints are carried across."""
    monkeypatch.setattr(kernels.plan, "FORCED_CHUNK", 64)
    launched = []
    carry = kernels._carry
    monkeypatch.setattr(kernels, "_carry", lambda *a: launched.append(carry(*a)))
    results, expected = run(make_inputs(torch.float32, batch=1, length=131, **options))
    assert len(launched) == 2  # forward and backward ran in chunks
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


@pytest.mark.parametrize("merge", ["sum", "stack"])
def test_chunks_of_traversals_agree_with_the_reference(kernels, monkeypatch, merge):
    """A grid that is cut where no row and no column ends."""
    monkeypatch.setattr(kernels.plan, "FORCED_CHUNK", 64)
    inputs = cross.make_inputs(torch.float32, grid=(7, 11), rank=1, states=2, merge=merge)
    results, expected = run(inputs, spec=cross.SPEC)
    harness.assert_close(results, expected, cross.SPEC.tolerances[torch.float32])


@pytest.mark.parametrize("chunk", [None, 64])
@pytest.mark.parametrize("reverse", [False, True])
def test_infinite_decay(kernels, monkeypatch, chunk, reverse):
    """A = -inf forgets at every step; the steps that fill the last tile up must not spoil it."""
    monkeypatch.setattr(kernels.plan, "FORCED_CHUNK", chunk)
    inputs = make_inputs(torch.float32, batch=1, channels=3, length=69, reverse=reverse)
    inputs["A"][1, 2] = float("-inf")
    results, expected = run(inputs, gradients=False)
    assert all(x.isfinite().all() for x in expected.values())
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


def test_one_chunk_agrees_too(kernels, monkeypatch):
    monkeypatch.setattr(kernels.plan, "FORCED_CHUNK", 192)
    results, expected = run(make_inputs(torch.float32, batch=1, length=131))
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


def test_blocks_of_channels_share_partial_sums(kernels):
    """Three blocks of 16 channels; with N = 16 one program takes them all, one after the other."""
    inputs = make_inputs(torch.float32, batch=1, channels=35, length=9, states=16)
    results, expected = run(inputs)
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


def test_tiles_of_two_steps(kernels, monkeypatch):
    """What devices of less than compute capability 9 run."""
    monkeypatch.setattr(kernels.plan, "backward_steps", lambda device, low_rank: 2)
    results, expected = run(make_inputs(torch.float32, batch=1, length=13))
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


def test_many_programs_share_scratch(kernels, monkeypatch):
    """16 programs take the 20 sequences of a batch, some of them two."""
    monkeypatch.setattr(kernels.plan, "processors", lambda device: 1)
    results, expected = run(make_inputs(torch.float32, batch=20, length=5))
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


@pytest.mark.parametrize("name", ["u", "delta", "A", "B", "C", "D", "z", "initial_state"])
def test_only_what_is_needed(kernels, name):
    """One gradient alone is what it is among all, and the others come back empty."""
    inputs = make_inputs(torch.float32, batch=1, length=7)
    device = harness.device_of("triton")
    inputs = harness.to_device(inputs, device)
    expected = harness.run(SPEC, inputs, "triton", ones(SPEC, inputs))[f"v_{name}"]
    leaf = inputs[name].detach().requires_grad_()
    outputs = SPEC.function(**(inputs | {name: leaf}), backend="triton")
    (alone,) = torch.autograd.grad(outputs, leaf, ones(SPEC, inputs))
    assert torch.equal(alone, expected)


def ones(spec, inputs):
    outputs = spec.function(**inputs, backend="reference")
    return [torch.ones_like(o) for o in harness.as_tuple(outputs)]


def test_determinism(kernels, monkeypatch):
    monkeypatch.setattr(kernels.plan, "FORCED_CHUNK", 64)
    inputs = make_inputs(torch.float32, channels=20, length=70, kind_C="constant", rank=2)
    first, _ = run(inputs)
    again, _ = run(inputs)
    for name, value in first.items():
        assert torch.equal(value, again[name]), name


def test_layout_of_the_output(kernels):
    inputs = harness.to_device(make_inputs(torch.float32), harness.device_of("triton"))
    inputs["u"] = inputs["u"].transpose(1, 2).contiguous().transpose(1, 2)
    out, _ = SPEC.function(**inputs, backend="triton")
    assert out.stride() == inputs["u"].stride()


def test_step_size_keeps_its_relative_precision(kernels):
    """softplus far below zero: log(1 + x) of a small x, as initial steps of 1e-3 are."""
    inputs = make_inputs(torch.float32, batch=1, length=32, extras="delta_bias")
    inputs["delta_bias"] = inputs["delta_bias"] - 9
    results, expected = run(inputs)
    harness.assert_close(results, expected, SPEC.tolerances[torch.float32])


@pytest.fixture
def tiles(monkeypatch):
    """The tiles of a device with one multiprocessor; the interpreter has one for all it can."""
    harness.need("alias_free_activation", "triton")
    from ssno_kernels.ops.alias_free_activation import kernel_triton

    plan, programs = kernel_triton.planning, []
    monkeypatch.setattr(plan, "on_device", lambda x: True)
    monkeypatch.setattr(plan, "processors", lambda device: 1)
    cut = plan.tiles

    def counted(*arguments):
        found = cut(*arguments)
        programs.append(found[0])
        return found

    monkeypatch.setattr(plan, "tiles", counted)
    return programs


TILED = {
    "2-d": {"grid": (9, 33), "channels": 5},
    "2-d-channels-last": {"grid": (9, 33), "channels": 5, "last": True},
    "3-d": {"grid": (17, 3, 16), "channels": 1},
    "halving": {"grid": (20, 80), "channels": 2, "down": 4, "taps": (4, 9)},
    "by-3-over-2": {"grid": (12, 70), "channels": 2, "up": 3, "taps": (7, 5)},
    "displaced": {"grid": (13, 40), "channels": 2, "padding": ((-3, 9), (6, -2))},
    "1-d": {"grid": (90,), "channels": 5, "batch": 2},
}


@pytest.mark.parametrize("options", TILED.values(), ids=TILED)
def test_tiles_agree_with_the_reference(tiles, options):
    """Edges of tiles and of strips in the middle of the grid."""
    options = {"batch": 1, "taps": (4, 5), "padding": (4, 3)} | options
    last = options.pop("last", False)
    inputs = alias.make_inputs(torch.float32, **options)
    results, expected = run(alias.channels_last(inputs) if last else inputs, spec=alias.SPEC)
    harness.assert_close(results, expected, alias.SPEC.tolerances[torch.float32])
    for T in tiles:
        assert T.tiles_w > 1
        if len(options["grid"]) > 1:
            assert T.strips > 1 or T.tiles_d > 1


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_what_is_not_finite_stays_within_reach_of_the_filters(tiles, value):
    """A tile is computed as a whole, and half of this one is out of reach."""
    sizes = {"batch": 1, "channels": 2, "grid": (12, 25), "taps": (4, 5), "padding": (4, 3)}
    inputs = alias.make_inputs(torch.float32, activation="silu", **sizes)
    inputs["x"][0, 0, 6, 12] = float(value)
    results, expected = run(inputs, spec=alias.SPEC)
    for name in ("out0", "v_x"):
        assert torch.equal(results[name].cpu().isfinite(), expected[name].isfinite()), name
        assert not expected[name].isfinite().all()


@pytest.mark.parametrize("options", [{"taps": (60, 5)}, {"up": 7, "down": 5, "taps": (8, 6)}])
def test_long_filters_and_periods_are_left_to_others(options):
    harness.need("alias_free_activation", "triton")
    inputs = alias.make_inputs(torch.float64, batch=1, grid=(4, 5), padding=(40, 40), **options)
    with pytest.raises(BackendError, match=r"writes every tap out.*these can: .*cpu, composite"):
        run(inputs, spec=alias.SPEC)
    cannot = (("triton", "made up"),)
    assert registry.preferred("alias_free_activation", "cuda", cannot)[0] == "composite"


SEGMENTED = {
    "both": {"per_sweep": EVERY},
    "periodic": {"boundary": "periodic"},
    "backward-columns": {"direction": "backward", "dim": 2, "grid": (67, 2)},
}


@pytest.mark.parametrize("options", SEGMENTED.values(), ids=SEGMENTED)
def test_segments_of_damped_conv(damped, monkeypatch, options):
    """A line of five chunks of 16, the last of them short, in three segments."""
    monkeypatch.setattr(damped, "FORCED_COLUMNS", 2)
    monkeypatch.setattr(damped, "chunk_steps", lambda length: 16)
    inputs = convolution.make_inputs(torch.float32, **({"grid": (67,), "channels": 2} | options))
    results, expected = run(inputs, spec=convolution.SPEC)
    harness.assert_close(results, expected, convolution.SPEC.tolerances[torch.float32])


@pytest.mark.parametrize("boundary", ["zero", "periodic"])
def test_slices_of_damped_conv(damped, monkeypatch, boundary):
    """Products of matrices in pieces, as they are compiled."""
    monkeypatch.setattr(damped, "WHOLE", False)
    inputs = convolution.make_inputs(
        torch.float32, batch=1, channels=2, grid=(141,), states=18, boundary=boundary
    )
    results, expected = run(inputs, spec=convolution.SPEC)
    harness.assert_close(results, expected, convolution.SPEC.tolerances[torch.float32])


@pytest.mark.parametrize("name", ["u", "damping", "coeff", "D", "step", "initial_state"])
def test_only_what_is_needed_of_damped_conv(damped, name):
    """One gradient alone is what it is among all."""
    inputs = convolution.make_inputs(torch.float32, batch=1, channels=1, grid=(35,))
    inputs = harness.to_device(inputs, harness.device_of("triton"))
    cotangents = [x.to(inputs["u"].device) for x in ones(convolution.SPEC, inputs)]
    together = harness.run(convolution.SPEC, inputs, "triton", cotangents)
    alone = harness.run(convolution.SPEC, inputs, "triton", cotangents, needed=[name])
    assert torch.equal(alone[f"v_{name}"], together[f"v_{name}"])


def test_tensor_cores_of_damped_conv_are_for_16_bits_or_with_leave(damped, monkeypatch):
    kinds = {dtype: damped.precision(torch.empty(1, dtype=dtype)) for dtype in harness.DTYPES}
    assert [kinds[dtype] for dtype in harness.DTYPES] == ["ieee", "ieee", "tf32", "tf32"]
    monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", "tf32")
    assert damped.precision(torch.empty(1)) == "tf32"
    assert damped.precision(torch.empty(1, dtype=torch.float64)) == "ieee"


def test_powers_of_damped_conv_keep_their_phase(damped):
    """A mode that lives for thousands of steps, over two segments."""
    inputs = convolution.make_inputs(
        torch.float32, batch=1, channels=1, grid=(5000,), states=2, direction="forward"
    )
    inputs["damping"] *= 1e-3
    expected = harness.run(convolution.SPEC, harness.in_float64(inputs), "composite")
    inputs = harness.to_device(inputs, harness.device_of("triton"))
    harness.assert_close(harness.run(convolution.SPEC, inputs, "triton"), expected, 1e-5)
