# SPDX-License-Identifier: MIT
"""The block `Mamba` of the stand-in for mamba_ssm: parameters, values, and its cache."""

from __future__ import annotations

import copy

import pytest
import torch
from compat_loops import inner_loop
from harness import relative_error

from ssno_kernels.compat.mamba_ssm import InferenceParams, Mamba

WIDTH, TOKENS = 6, 9


def block(**options) -> Mamba:
    torch.manual_seed(0)
    return Mamba(WIDTH, d_state=3, **({"layer_idx": 2} | options)).double()


def tokens() -> torch.Tensor:
    return torch.randn(2, TOKENS, WIDTH, dtype=torch.float64)


def test_parameters_are_the_originals():
    """Names, shapes and dtypes that a checkpoint of mamba_ssm has."""
    shapes = {
        "A_log": (12, 16), "D": (12,), "in_proj.weight": (24, 6), "conv1d.weight": (12, 1, 4),
        "conv1d.bias": (12,), "x_proj.weight": (33, 12), "dt_proj.weight": (12, 1),
        "dt_proj.bias": (12,), "out_proj.weight": (6, 12),
    }  # fmt: skip
    model = Mamba(WIDTH, dtype=torch.bfloat16)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == shapes
    in_float32 = {k for k, v in model.state_dict().items() if v.dtype == torch.float32}
    assert in_float32 == {"A_log", "D"}
    assert torch.equal(model.A_log[3], torch.arange(1.0, 17).log()) and (model.D == 1).all()
    step = torch.nn.functional.softplus(Mamba(64).dt_proj.bias)
    assert step.min() > 0.99e-3 and step.max() < 0.101
    marks = model.A_log._no_weight_decay, model.D._no_weight_decay, model.dt_proj.bias._no_reinit
    assert all(marks)
    assert {"in_proj.bias", "out_proj.bias"} < block(bias=True).state_dict().keys()
    assert "conv1d.bias" not in block(conv_bias=False).state_dict()
    assert all(p.is_meta for p in Mamba(WIDTH, device="meta").parameters())


@pytest.mark.parametrize("options", [{}, {"bias": True}, {"conv_bias": False, "d_conv": 2}])
def test_block_is_its_formula(options):
    model, x = block(**options), tokens()
    xz = model.in_proj(x).mT
    expected = inner_loop(
        xz, model.conv1d.weight, model.conv1d.bias, model.x_proj.weight, model.dt_proj.weight,
        model.out_proj.weight, model.out_proj.bias, -model.A_log.exp(), None, None, model.D,
        model.dt_proj.bias, None, None, (None, None, None),
    )  # fmt: skip
    out = model(x)
    assert relative_error(out, expected) < 1e-12
    v, parameters = torch.randn_like(out), list(model.parameters())
    pairs = zip(*(torch.autograd.grad(y, parameters, v) for y in (out, expected)), strict=True)
    assert all(relative_error(a, b) < 1e-12 for a, b in pairs)


@pytest.mark.parametrize("prompt", [1, 2, 5])
@torch.no_grad()
def test_generation_continues_a_prompt(prompt):
    """Prompts shorter and longer than the convolution."""
    model, x = block(), tokens()
    cache = InferenceParams(max_seqlen=TOKENS, max_batch_size=2)
    outs = [model(x[:, :prompt], inference_params=cache)]
    for t in range(prompt, TOKENS):
        cache.seqlen_offset = t
        outs.append(model(x[:, t : t + 1], inference_params=cache))
    assert relative_error(torch.cat(outs, 1), model(x)) < 1e-12
    conv_state, ssm_state = cache.key_value_memory_dict[2]
    assert conv_state.shape == (2, 12, 4) and ssm_state.shape == (2, 12, 3)
    cache.reset(TOKENS, 2)
    assert cache.seqlen_offset == 0


@torch.no_grad()
def test_steps_from_nothing():
    model, x = block(), tokens()
    states = model.allocate_inference_cache(2, TOKENS)
    outs = [model.step(x[:, t : t + 1], *states)[0] for t in range(TOKENS)]
    assert relative_error(torch.cat(outs, 1), model(x)) < 1e-12
    half = model.allocate_inference_cache(2, TOKENS, dtype=torch.float16)
    assert {s.dtype for s in half} == {torch.float16}


def test_copies_and_checkpoints():
    model, x = block(), tokens()
    other = block()
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(x), model(x)) and torch.equal(copy.deepcopy(model)(x), model(x))


def test_what_is_refused():
    with pytest.raises(NotImplementedError, match="dt_init='zero'"):
        block(dt_init="zero")
    with pytest.raises(ValueError, match="layer_idx is None"):
        block(layer_idx=None)(tokens(), InferenceParams(TOKENS, 2))
    with pytest.raises(ValueError, match=r"expected \(B, 1, d_model\)"):
        block().step(tokens(), *block().allocate_inference_cache(2, 1))


def test_block_compiles_whole():
    model, x = block(), tokens()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    v = torch.randn_like(x)
    pairs = zip(
        *(torch.autograd.grad(f(x), list(model.parameters()), v) for f in (compiled, model)),
        strict=True,
    )
    assert all(relative_error(a, b) < 1e-12 for a, b in pairs)
    torch._dynamo.reset()
