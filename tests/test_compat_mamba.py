# SPDX-License-Identifier: MIT
"""The stand-ins for the functions of mamba_ssm, against plain loops."""

from __future__ import annotations

import pytest
import torch
from compat_loops import (
    TINY,
    B,
    D,
    L,
    N,
    as_leaves,
    assert_all,
    gradients,
    inner_loop,
    inputs,
    scan_loop,
)
from harness import relative_error
from torch import Tensor

from ssno_kernels.compat import NotCoveredError, mamba_ssm


@pytest.mark.parametrize("function", [mamba_ssm.selective_scan_fn, mamba_ssm.selective_scan_ref])
@pytest.mark.parametrize(
    "kind, groups", [("real", 0), ("real", 2), ("complex", 2), ("constant", 0)]
)
def test_selective_scan_of_mamba(function, kind, groups):
    leaves = as_leaves(inputs(kind=kind, groups=groups))
    out, state = function(**leaves, delta_softplus=True, return_last_state=True)
    expected, last = scan_loop(**leaves, delta_softplus=True)
    assert_all({"out": out, "state": state}, {"out": expected, "state": last})
    v = torch.randn_like(out)
    assert_all(gradients(out, leaves, v), gradients(expected, leaves, v))
    assert torch.equal(function(**leaves, delta_softplus=True), out)


def test_dtypes_may_differ():
    """As under autocast: the widest computes, u's is returned."""
    given = inputs()
    mixed = {k: v.bfloat16() if k in ("u", "z") else v.float() for k, v in given.items()}
    out = mamba_ssm.selective_scan_fn(**mixed, delta_softplus=True)
    assert out.dtype == torch.bfloat16
    expected, _ = scan_loop(**{k: v.double() for k, v in mixed.items()}, delta_softplus=True)
    assert relative_error(out, expected) < 1e-2


@pytest.mark.parametrize("kind", ["", "complex", "constant B", "constant C", "biases rms"])
def test_mamba_inner(kind):
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    is_complex, R = kind == "complex", 2
    states = N * (1 + is_complex) * (1 if "constant" in kind else 2)
    given = [normal(B, 2 * D, L), normal(D, 1, 3), normal(D), normal(R + states, D)]
    given += [normal(D, R), normal(5, D), normal(5), -normal(D, N).abs()]
    given[7] = torch.complex(given[7], normal(D, N)) if is_complex else given[7]
    given += [normal(D, N) if kind == f"constant {M}" else None for M in "BC"]
    given += [normal(D), normal(D)]
    extra = "biases" in kind
    given += [normal(N), normal(N)] if extra else [None, None]
    rms = (normal(N), normal(N), normal(D)) if extra else (None, None, None)
    leaves = [t if t is None else t.requires_grad_() for t in (*given, *rms)]
    given, rms = leaves[:-3], leaves[-3:]
    named = dict(zip(("b_rms_weight", "c_rms_weight", "dt_rms_weight"), rms, strict=True))
    outs = [mamba_ssm.mamba_inner_fn(*given, **named)]
    outs += [] if extra else [mamba_ssm.mamba_inner_ref(*given)]
    expected = inner_loop(*given, rms)
    present = [t for t in leaves if t is not None]
    v = torch.randn_like(expected)
    v_expected = torch.autograd.grad(expected, present, v)
    for out in outs:
        assert out.shape == (B, L, 5) and relative_error(out, expected) < TINY
        pairs = zip(torch.autograd.grad(out, present, v), v_expected, strict=True)
        assert all(relative_error(a, b) < TINY for a, b in pairs)


@pytest.mark.parametrize("heads", [0, 4])
@pytest.mark.parametrize("indexed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_state_update(heads, indexed, dtype):
    """Step after step it is the scan, in place on its own rows of a larger state."""
    given = inputs()
    H = (heads,) if heads else ()
    P = D if not heads else 1  # channels a head
    rows = torch.tensor([3, 1]) if indexed else torch.arange(B)
    state = torch.full((5 if indexed else B, *H, P, N), 2.0, dtype=dtype)
    state[rows] = 0
    shape = (B, *H, P)
    outs = []
    for t in range(L):
        out = mamba_ssm.selective_state_update(
            state,
            given["u"][..., t].view(shape).to(dtype),
            given["delta"][..., t].view(shape).to(dtype),
            given["A"].view(*H, P, N),
            given["B"][..., t][:, None] if heads else given["B"][..., t],
            given["C"][..., t][:, None] if heads else given["C"][..., t],
            given["D"].view(*H, P),
            given["z"][..., t].view(shape).to(dtype),
            given["delta_bias"].view(*H, P),
            dt_softplus=True,
            state_batch_indices=rows.int() if indexed else None,
        )
        assert out.shape == shape and out.dtype == dtype
        outs.append(out.view(B, D))
    expected, last = scan_loop(**given, delta_softplus=True)
    bound = TINY if dtype == torch.float64 else 2e-2
    assert relative_error(torch.stack(outs, -1), expected) < bound
    assert relative_error(state[rows].view(B, D, N), last) < bound
    if indexed:
        assert (state[[0, 2, 4]] == 2).all()


def test_state_update_of_padding_and_its_reference():
    given = {k: v[..., 0] if v.dim() == 3 else v for k, v in inputs().items()}
    u, dt, A, B_t, C_t, D_, z, bias = given.values()
    state = torch.randn(3, D, N, dtype=torch.float64)
    before, indices = state.clone(), torch.tensor([-1, 2])
    arguments = (A, B_t, C_t, D_, z, bias, True)
    out = mamba_ssm.selective_state_update(state, u, dt, *arguments, indices)
    assert not out[0].any() and torch.equal(state[:2], before[:2])
    part = before[[0, 2]]
    expected = mamba_ssm.selective_state_update_ref(part, u, dt, *arguments)
    assert relative_error(out[1], expected[1]) < TINY
    assert relative_error(state[2], part[1]) < TINY


def test_gradients_of_a_state_update():
    """Those of the step; the state, which is updated in place, has none."""
    given = {k: v[..., :1] if v.dim() == 3 else v for k, v in inputs().items()}
    leaves = as_leaves(given)
    step = {k: v[..., 0] if v.dim() == 3 else v for k, v in leaves.items()}
    state = torch.randn(B, D, N, dtype=torch.float64)
    expected, _ = scan_loop(**leaves, delta_softplus=True, h=state)
    v = torch.randn_like(expected)
    want = gradients(expected, leaves, v)
    for function in (mamba_ssm.selective_state_update, mamba_ssm.selective_state_update_ref):
        out = function(state.clone(), *step.values(), True)
        assert relative_error(out, expected[..., 0]) < TINY
        assert_all(gradients(out, leaves, v[..., 0]), want)


@pytest.mark.parametrize("prenorm", [False, True])
@pytest.mark.parametrize("has_residual", [False, True])
def test_norm_of_a_residual_stream(prenorm, has_residual):
    x, weight = torch.randn(2, 3, 8).bfloat16(), torch.randn(8)
    residual = torch.randn(2, 3, 8) if has_residual else None
    norm = mamba_ssm.RMSNorm(8, eps=1e-3)
    norm.weight.data.copy_(weight)
    result = norm(x, residual, prenorm=prenorm, residual_in_fp32=True)
    y, s = result if prenorm else (result, None)
    total = x.double() + (residual.double() if has_residual else 0)
    expected = total / (total.square().mean(-1, keepdim=True) + 1e-3).sqrt() * weight
    assert y.dtype == x.dtype and relative_error(y, expected) < 1e-2
    assert s is None or (s.dtype == torch.float32 and relative_error(s, total) < 1e-6)


@pytest.mark.parametrize("function", [mamba_ssm.layer_norm_fn, mamba_ssm.rms_norm_fn])
def test_norms_and_their_gradients(function):
    shapes = {
        "x": (2, 3, 8),
        "weight": (8,),
        "bias": (8,),
        "residual": (2, 3, 8),
        "rowscale": (2, 3),
    }
    leaves = as_leaves({k: torch.randn(*n, dtype=torch.float64) for k, n in shapes.items()})
    x, weight, bias, residual, rowscale = leaves.values()

    def norm(s: Tensor, eps: float) -> Tensor:
        s = s - s.mean(-1, keepdim=True) if function is mamba_ssm.layer_norm_fn else s
        return s / (s.square().mean(-1, keepdim=True) + eps).sqrt() * weight + bias

    assert relative_error(function(x, weight, bias), norm(x, 1e-6)) < TINY
    outs = function(x, weight, bias, residual, eps=1e-3, rowscale=rowscale, prenorm=True)
    total = rowscale[..., None] * x + residual
    expected = norm(total, 1e-3), total
    assert all(relative_error(a, b) < TINY for a, b in zip(outs, expected, strict=True))
    v = torch.randn(2, 2, 3, 8, dtype=torch.float64).unbind()
    assert_all(gradients(outs, leaves, v), gradients(expected, leaves, v))


def test_what_is_not_covered_says_so():
    ones = torch.ones(2)
    with pytest.raises(NotCoveredError, match=r"does not cover .*x1.*what serves: "):
        mamba_ssm.rms_norm_fn(ones, ones, None, x1=ones)
