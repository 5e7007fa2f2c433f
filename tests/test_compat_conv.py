# SPDX-License-Identifier: MIT
"""The stand-ins for causal_conv1d against loops over time written from its contract."""

from __future__ import annotations

import pytest
import torch
from harness import relative_error
from torch.nn.functional import silu

from ssno_kernels.compat import NotCoveredError, causal_conv1d_cuda
from ssno_kernels.compat.causal_conv1d import (
    causal_conv1d_fn,
    causal_conv1d_ref,
    causal_conv1d_update,
    causal_conv1d_update_ref,
    causal_conv1d_varlen_states,
)

B, D, L = 2, 5, 11


def loop(x, weight, bias=None, seq_idx=None, initial_states=None, activation=None):
    """Sample by sample, tap by tap."""
    width = weight.shape[1]
    rows = []
    for t in range(x.shape[-1]):
        y = torch.zeros_like(x[..., 0]) if bias is None else bias.expand(x.shape[:2])
        for s in range(width):
            if t - s >= 0:
                seen = x[..., t - s]
                if seq_idx is not None:
                    seen = torch.where((seq_idx[:, t - s] == seq_idx[:, t])[:, None], seen, 0)
            elif initial_states is not None:
                seen = initial_states[..., t - s]  # its end is the sample before x
            else:
                continue
            y = y + weight[:, width - 1 - s] * seen
        y = silu(y) if activation else y
        if seq_idx is not None:
            y = torch.where((seq_idx[:, t] >= 0)[:, None], y, 0)
        rows.append(y)
    return torch.stack(rows, -1)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed + len(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("length", [1, 2, L])
@pytest.mark.parametrize("width, activation", [(1, None), (2, "silu"), (4, None), (4, "swish")])
@pytest.mark.parametrize("given", ["", "bias", "bias initial", "seq_idx"])
@pytest.mark.parametrize("channels_last", [False, True])
def test_convolution_and_gradients(length, width, activation, given, channels_last):
    x = normal(B, D, length)
    x = x.mT.contiguous().mT if channels_last else x
    leaves = {"x": x, "weight": normal(D, width)}
    if "bias" in given:
        leaves["bias"] = normal(D)
    if "initial" in given:
        leaves["initial_states"] = normal(B, D, width - 1, seed=1)
    options = {"activation": activation}
    if "seq_idx" in given:
        options["seq_idx"] = torch.tensor([[0, 0, 0, 1, 2, 2, 2, 2, 2, -1, -1], [3] * 11])[
            :, :length
        ].int()
    leaves = {k: v.requires_grad_() for k, v in leaves.items()}
    out, expected = causal_conv1d_fn(**leaves, **options), loop(**leaves, **options)
    assert relative_error(out, expected) < 1e-13
    assert out.stride() == torch.empty_like(x).stride() or "initial" in given
    v = normal(*out.shape, seed=2)
    pairs = zip(
        torch.autograd.grad(out, list(leaves.values()), v),
        torch.autograd.grad(expected, list(leaves.values()), v, materialize_grads=True),
        strict=True,
    )
    assert all(relative_error(a, b) < 1e-13 for a, b in pairs)


def test_second_derivatives():
    leaves = normal(1, 2, 5), normal(2, 3), normal(2)
    leaves = [t.requires_grad_() for t in leaves]
    seq_idx = torch.tensor([[0, 0, 1, 1, 1]])
    torch.autograd.gradgradcheck(
        lambda x, w, b: causal_conv1d_fn(x, w, b, seq_idx, activation="silu"), leaves
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    x, weight, bias = normal(B, D, L).to(dtype), normal(D, 4).float(), normal(D).float()
    out = causal_conv1d_fn(x, weight, bias, activation="silu")
    assert out.dtype == dtype
    expected = loop(x.double(), weight.double(), bias.double(), activation="silu")
    assert relative_error(out, expected) < (1e-6 if dtype == torch.float32 else 1e-2)


@pytest.mark.parametrize("length", [1, 2, L])
@pytest.mark.parametrize("states", [False, True])
def test_final_states_continue_a_sequence(length, states):
    """Also those of a piece that is shorter than the convolution."""
    x, weight = normal(B, D, length + 3).requires_grad_(), normal(D, 4)
    initial = normal(B, D, 3, seed=1).requires_grad_() if states else None
    whole = causal_conv1d_fn(x, weight, initial_states=initial)
    first, carried = causal_conv1d_fn(
        x[..., :length], weight, initial_states=initial, return_final_states=True
    )
    assert carried.shape == (B, D, 3)
    second = causal_conv1d_fn(x[..., length:], weight, initial_states=carried)
    joined = torch.cat([first, second], -1)
    assert relative_error(joined, whole) < 1e-13
    v = normal(*whole.shape, seed=2)
    leaves = [x, initial] if states else [x]
    pairs = zip(*(torch.autograd.grad(y, leaves, v) for y in (joined, whole)), strict=True)
    assert all(relative_error(a, b) < 1e-13 for a, b in pairs)


def test_final_states_are_written_where_asked():
    x, out = normal(B, D, L), torch.zeros(B, D, 2, dtype=torch.float64)
    _, states = causal_conv1d_fn(
        x, normal(D, 3), return_final_states=True, final_states_out=out, activation="silu"
    )
    assert states is out and torch.equal(out, x[..., -2:])


@pytest.mark.parametrize("size", [3, 7])
@pytest.mark.parametrize("ring", [False, True])
@pytest.mark.parametrize("indexed", [False, True])
def test_updates_are_the_convolution(size, ring, indexed):
    """Pieces of 1, 3 and 5 samples, from zero states, on a ring that starts anywhere."""
    x, weight, bias = normal(B, D, 9), normal(D, 4), normal(D)
    expected = loop(x, weight, bias, activation="silu")
    state = torch.zeros(B, D, size, dtype=x.dtype)
    options: dict = {"activation": "silu"}
    seqlens = torch.tensor([5, 1], dtype=torch.int32)
    if indexed:
        state = torch.full((4, D, size), 7.0, dtype=x.dtype)
        state[[2, 0]] = 0
        options["conv_state_indices"] = torch.tensor([2, 0], dtype=torch.int32)
    pieces = list(x.split([1, 3, 5], -1))
    outs = []
    for piece in pieces:
        if ring:
            options["cache_seqlens"] = seqlens
        single = piece.shape[-1] == 1
        out = causal_conv1d_update(
            piece[..., 0] if single else piece, state, weight, bias, **options
        )
        outs.append(out[..., None] if single else out)
        seqlens = seqlens + piece.shape[-1]
    assert relative_error(torch.cat(outs, -1), expected) < 1e-13
    rows = state[[2, 0]] if indexed else state
    if ring:
        for b in range(B):
            for t in range(9 - min(size, 9), 9):
                at = (int([5, 1][b]) + t) % size
                assert torch.equal(rows[b, :, at], x[b, :, t])
    else:
        assert torch.equal(rows, x[..., -size:])
    if indexed:
        assert (state[[1, 3]] == 7).all()


def test_update_of_padding():
    state = normal(3, D, 3)
    before = state.clone()
    indices = torch.tensor([-1, 1], dtype=torch.int32)
    out = causal_conv1d_update(normal(B, D), state, normal(D, 4), conv_state_indices=indices)
    assert not out[0].any() and out[1].all()
    assert torch.equal(state[[0, 2]], before[[0, 2]]) and not torch.equal(state[1], before[1])


def test_references_have_the_order_of_the_originals():
    """No seq_idx before the states, no indices after the ring."""
    x, weight, bias, initial = normal(B, D, L), normal(D, 4), normal(D), normal(B, D, 3, seed=1)
    written = torch.zeros_like(initial)
    out, states = causal_conv1d_ref(x, weight, bias, initial, True, written, "silu")
    expected = loop(x, weight, bias, initial_states=initial, activation="silu")
    assert relative_error(out, expected) < 1e-13
    assert states is written and torch.equal(states, x[..., -3:])
    out = causal_conv1d_update_ref(x, initial, weight, bias, "silu", torch.tensor([0, 0]))
    assert relative_error(out, expected) < 1e-13
    assert torch.equal(initial, x[..., [9, 10, 8]])  # sample t at t % 3


def test_states_of_packed_sequences():
    x = normal(9, D)
    states = causal_conv1d_varlen_states(x, torch.tensor([0, 2, 9]), 3)
    assert states.shape == (2, D, 3)
    assert torch.equal(states[0], torch.cat([torch.zeros(D, 1).double(), x[:2].T], 1))
    assert torch.equal(states[1], x[6:9].T)


def test_raw_extension():
    """Forward, backward into a given dx, update: as of version 1.4."""
    x, weight, bias, initial = normal(B, D, L), normal(D, 3), normal(D), normal(B, D, 2, seed=1)
    final = torch.zeros_like(initial)
    out = causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, None, initial, final, True)
    leaves = [t.clone().requires_grad_() for t in (x, weight, bias, initial)]
    expected = loop(*leaves[:3], initial_states=leaves[3], activation="silu")
    assert relative_error(out, expected) < 1e-13 and torch.equal(final, x[..., -2:])
    v, v_final, dx = normal(B, D, L, seed=2), normal(B, D, 2, seed=3), torch.empty_like(x)
    results = causal_conv1d_cuda.causal_conv1d_bwd(
        x, weight, bias, v, None, initial, v_final, dx, True, True
    )
    v_leaves = torch.autograd.grad(
        (expected, leaves[0][..., -2:]), leaves, (v, v_final), materialize_grads=True
    )
    assert results[0] is dx
    assert all(relative_error(a, b) < 1e-13 for a, b in zip(results, v_leaves, strict=True))
    without = causal_conv1d_cuda.causal_conv1d_bwd(
        x, weight, None, v, None, None, None, None, False, False
    )
    assert without[2] is None and without[3] is None
    state = torch.zeros(B, D, 2, dtype=x.dtype)
    step = causal_conv1d_cuda.causal_conv1d_update(
        x[..., :1], state, weight, bias, True, None, None
    )
    assert relative_error(step, loop(x, weight, bias, activation="silu")[..., :1]) < 1e-13
    assert torch.equal(state, torch.stack([torch.zeros_like(x[..., 0]), x[..., 0]], -1))
    with pytest.raises(NotCoveredError, match=r"1\.5 and later"):
        causal_conv1d_cuda.causal_conv1d_fwd(x, weight, bias, None, None, out, None, True)


def test_what_is_refused():
    x, weight = normal(B, D, L), normal(D, 3)
    with pytest.raises(NotImplementedError, match="activation='relu'"):
        causal_conv1d_fn(x, weight, activation="relu")
    with pytest.raises(NotImplementedError, match="seq_idx and states"):
        causal_conv1d_fn(x, weight, seq_idx=torch.zeros(B, L), return_final_states=True)
    with pytest.raises(ValueError, match=r"weight has shape \(4, 3\)"):
        causal_conv1d_fn(x, weight[1:])
    with pytest.raises(ValueError, match="conv_state holds 1 samples"):
        causal_conv1d_update(x[..., 0], torch.zeros(B, D, 1), weight)
