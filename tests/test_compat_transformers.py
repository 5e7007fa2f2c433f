# SPDX-License-Identifier: MIT
"""The Mamba layers of `transformers` on our kernels; its own models too, where it is installed."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, linear, silu, softplus

from ssno_kernels import compat
from ssno_kernels.compat.transformers import _FUNCTIONS, _LAYERS, _falcon_inner_fn

TINY = 1e-12


def test_layers_of_transformers(monkeypatch):
    """Functions where it found none; the slow path stays for a mask of padding in training."""

    class MambaMixer(torch.nn.Module):
        def slow_forward(self, x, cache=None, position=None, attention_mask=None):
            return "slow"

        def cuda_kernels_forward(self, x, cache=None, position=None, attention_mask=None):
            return "fast"

    class JambaMambaMixer(MambaMixer):
        slow_forward = MambaMixer.slow_forward

    class FalconMambaMixer(MambaMixer):
        slow_forward = MambaMixer.slow_forward

    layers = {
        "mamba": MambaMixer,
        "jamba": JambaMambaMixer,
        "falcon_mamba": FalconMambaMixer,
    }
    for name, layer in layers.items():
        module = types.ModuleType(f"transformers.models.{name}.modeling_{name}")
        setattr(module, layer.__name__, layer)
        module._causal_conv1d_cache = None, None
        module.selective_scan_fn = module.selective_state_update = None
        module.mamba_inner_fn = "theirs" if name == "jamba" else None
        module.causal_conv1d_fn = module.causal_conv1d_update = None
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for package in (
        "transformers",
        "transformers.models",
        *(f"transformers.models.{n}" for n in layers),
    ):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    compat.accelerate_transformers()
    compat.accelerate_transformers()
    for name, layer in layers.items():
        module = sys.modules[f"transformers.models.{name}.modeling_{name}"]
        conv, scan = compat.causal_conv1d, compat.mamba_ssm
        inner = {"mamba": scan.mamba_inner_fn, "jamba": "theirs", "falcon_mamba": _falcon_inner_fn}
        assert module.selective_scan_fn is scan.selective_scan_fn
        assert module.selective_state_update is scan.selective_state_update
        assert module.mamba_inner_fn is inner[name]
        assert module.causal_conv1d_fn is conv.causal_conv1d_fn
        assert module.causal_conv1d_update is conv.causal_conv1d_update
        assert module._causal_conv1d_cache == (conv.causal_conv1d_update, conv.causal_conv1d_fn)
        full, padded = torch.ones(1, 3), torch.tensor([[0, 1, 1]])
        training, trained = layer(), layer().eval()
        assert training.slow_forward(1) == training.slow_forward(1, None, None, full) == "fast"
        assert training.slow_forward(1, attention_mask=padded) == "slow"
        assert trained.slow_forward(1, None, None, padded) == "fast"
    layer = types.ModuleType("transformers.models.mamba.modeling_mamba")
    monkeypatch.setitem(sys.modules, layer.__name__, layer)
    with pytest.raises(compat.NotCoveredError, match="MambaMixer of this version"):
        compat.accelerate_transformers()


def test_delta_of_falcon_mamba_is_normalised_before_its_projection():
    """Its slow path, written out: step by step, with every norm where that has it."""
    B, D, L, N, R = 2, 6, 7, 3, 2
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    def norm(x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)

    xz, taps, x_proj = normal(B, 2 * D, L), normal(D, 1, 4), normal(R + 2 * N, D)
    dt_proj, out_proj, A = (
        normal(D, R),
        normal(5, D),
        (-normal(D, N).exp()).detach().requires_grad_(),
    )
    skip, dt_bias, ones = normal(D), normal(D), torch.ones(N, dtype=torch.float64)
    out = _falcon_inner_fn(
        xz, taps, None, x_proj, dt_proj, out_proj, None, A, None, None, skip,
        delta_bias=dt_bias, delta_softplus=True, b_rms_weight=ones, c_rms_weight=ones,
        dt_rms_weight=ones.new_ones(D), b_c_dt_rms_eps=1e-6,
    )  # fmt: skip
    x, z = xz.chunk(2, dim=1)
    x = silu(conv1d(x, taps, padding=3, groups=D)[..., :L])
    dt, B_t, C_t = map(norm, linear(x.mT, x_proj).split([R, N, N], dim=-1))
    step = softplus(linear(dt, dt_proj, dt_bias))
    h, ys = torch.zeros(B, D, N, dtype=torch.float64), []
    for t in range(L):
        s = step[:, t, :, None]
        h = torch.exp(s * A) * h + s * B_t[:, t, None] * x[:, :, t, None]
        ys.append((h * C_t[:, t, None]).sum(-1) + skip * x[:, :, t])
    expected = linear(torch.stack(ys, dim=1) * silu(z).mT, out_proj)
    assert torch.allclose(out, expected, rtol=TINY, atol=TINY)
    v = torch.randn_like(out)
    leaves = [xz, taps, x_proj, dt_proj, out_proj, A, skip, dt_bias]
    pairs = zip(*(torch.autograd.grad(y, leaves, v) for y in (out, expected)), strict=True)
    assert all(torch.allclose(a, b, rtol=1e-10, atol=TINY) for a, b in pairs)


@pytest.mark.parametrize("name", ["Mamba", "FalconMamba"])
def test_models_of_transformers(name, monkeypatch):
    """The same logits, gradients and tokens as on the slow path before."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    torch.manual_seed(0)
    configuration = getattr(transformers, f"{name}Config")(
        vocab_size=50, hidden_size=32, num_hidden_layers=2, bos_token_id=1, eos_token_id=49
    )
    model = getattr(transformers, f"{name}ForCausalLM")(configuration)
    tokens = torch.randint(2, 49, (2, 21))

    def run() -> list[Tensor]:
        model.train().zero_grad()
        out = model(tokens, labels=tokens, use_cache=False)
        out.loss.backward()
        generated = model.eval().generate(tokens, max_new_tokens=5, do_sample=False)
        gradients = [p.grad.clone() for p in model.parameters()]
        return [out.logits.detach(), generated.double(), *gradients]

    slow = run()
    for module_name, layer in _LAYERS.items():
        module = importlib.import_module(module_name)
        for function in _FUNCTIONS.keys() & vars(module).keys():
            monkeypatch.setattr(module, function, getattr(module, function))  # restored afterwards
        mixer = getattr(module, layer)
        monkeypatch.setattr(mixer, "slow_forward", mixer.slow_forward)
    compat.accelerate_transformers()
    for ours, theirs in zip(run(), slow, strict=True):
        assert (ours - theirs).norm() <= 1e-5 * theirs.norm()
