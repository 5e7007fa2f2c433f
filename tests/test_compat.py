# SPDX-License-Identifier: MIT
"""The stand-ins for the functions of mamba_ssm, its extensions, VMamba and S4, against plain loops.

The loops are written from the contracts; causal_conv1d has a file of its own.
"""

from __future__ import annotations

import pytest
import torch
from harness import relative_error
from torch import Tensor
from torch.nn.functional import conv1d, pad, silu, softplus

from ssno_kernels.compat import (
    NotCoveredError,
    mamba_ssm,
    s4,
    selective_scan_cuda,
    selective_scan_cuda_core,
    selective_scan_cuda_oflex,
    vmamba,
)
from ssno_kernels.compat.raw import CHUNK

B, D, N, L = 2, 4, 3, 7
TINY = 1e-12


def scan_loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """(out, last state); B, C (D, N), (B, N, L) or (B, G, N, L), interleaved for a complex A."""

    def at(M: Tensor, t: int) -> Tensor:
        if M.dim() == 2:
            return M
        M = M[:, None] if M.dim() == 3 else M
        M_t = torch.complex(M[..., 2 * t], M[..., 2 * t + 1]) if A.is_complex() else M[..., t]
        return M_t.repeat_interleave(len(A) // M.shape[1], 1)

    dt = delta if delta_bias is None else delta + delta_bias[:, None]
    dt = softplus(dt) if delta_softplus else dt
    h = torch.zeros(len(u), *A.shape, dtype=A.dtype)
    y = []
    for t in range(u.shape[-1]):
        s = dt[..., t, None]
        h = torch.exp(s * A) * h + s * at(B, t) * u[..., t, None]
        y_t = (at(C, t) * h).sum(-1)
        y.append(2 * y_t.real if A.is_complex() else y_t)
    out = torch.stack(y, -1)
    out = out if D is None else out + D[:, None] * u
    return (out if z is None else out * silu(z)), h


def inputs(length: int = L, kind: str = "real", groups: int = 0, extras: str = "D z delta_bias"):
    """In float64; kind 'complex', or 'constant' for B and C of the channels."""
    generator = torch.Generator().manual_seed(length)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    is_complex = kind == "complex"
    A = -normal(D, N).abs()
    A = torch.complex(A, normal(D, N)) if is_complex else A
    grouped = (groups,) if groups else ()
    shape = (D, N) if kind == "constant" else (B, *grouped, N, (1 + is_complex) * length)
    given = {
        "u": normal(B, D, length),
        "delta": normal(B, D, length) - 1,
        "A": A,
        "B": normal(*shape),
        "C": normal(*shape),
        "D": normal(D),
        "z": normal(B, D, length),
        "delta_bias": normal(D),
    }
    optional = {"D", "z", "delta_bias"} - set(extras.split())
    return {k: v for k, v in given.items() if k not in optional}


def gradients(outputs, leaves: dict[str, Tensor], v: Tensor) -> dict[str, Tensor]:
    found = torch.autograd.grad(outputs, list(leaves.values()), v)
    return dict(zip(leaves, found, strict=True))


def as_leaves(given: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k: v.detach().requires_grad_() for k, v in given.items()}


def assert_all(results: dict, expected: dict, bound: float = TINY) -> None:
    for name, value in expected.items():
        assert relative_error(results[name], value) < bound, name


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


@pytest.mark.parametrize("kind", ["real", "complex"])
@pytest.mark.parametrize("length", [L, CHUNK + 5])
def test_raw_forward_keeps_states_of_chunks(kind, length):
    """x holds products and states in turns at the end of each 2048 steps."""
    given = inputs(length, kind, groups=1)
    out, x, out_z = selective_scan_cuda.fwd(*given.values(), True)
    ungated = {k: v for k, v in given.items() if k != "z"}
    expected, last = scan_loop(**ungated, delta_softplus=True)
    assert_all({"out": out, "z": out_z}, {"out": expected, "z": expected * silu(given["z"])})
    assert x.shape == (B, D, -(-length // CHUNK), 2 * N)
    assert relative_error(x[:, :, -1, 1::2], last) < TINY
    dt = softplus(given["delta"] + given["delta_bias"][:, None])
    for chunk in range(x.shape[2]):
        total = dt[..., : (chunk + 1) * CHUNK].sum(-1, keepdim=True)
        product = torch.exp(total * given["A"])
        assert (x[:, :, chunk, 0::2] - product).abs().max() < TINY


@pytest.mark.parametrize("extras", ["D z delta_bias", ""])
def test_raw_backward(extras):
    given = inputs(groups=2, extras=extras)
    leaves = as_leaves(given)
    full = {k: given.get(k) for k in inputs()}
    expected, _ = scan_loop(**leaves, delta_softplus=True)
    v = torch.randn_like(expected)
    want = gradients(expected, leaves, v)
    has_z = "z" in given
    dz = torch.empty_like(v) if has_z else None
    results = selective_scan_cuda.bwd(*full.values(), v, None, None, dz, True, has_z)
    names = ["u", "delta", "A", "B", "C", "D", "delta_bias", *(["z", "out_z"] if has_z else [])]
    assert len(results) == len(names)
    got = dict(zip(names, results, strict=True))
    assert all(got[name] is None for name in names if name not in leaves and name != "out_z")
    assert_all(got, want)
    if has_z:
        assert got["z"] is dz
        assert relative_error(got["out_z"], expected) < TINY


def test_oflex_and_core_of_vmamba():
    given = {
        k: v.half() if v.dim() > 2 else v.float() for k, v in inputs(extras="D delta_bias").items()
    }
    given["B"], given["C"] = given["B"][:, None], given["C"][:, None]
    expected, last = scan_loop(**{k: v.double() for k, v in given.items()}, delta_softplus=True)
    out, x = selective_scan_cuda_oflex.fwd(*given.values(), True, 1, True)
    assert out.dtype == torch.float32 and relative_error(out, expected) < 1e-6
    assert relative_error(x[:, :, -1, 1::2], last) < 1e-6
    narrow, _ = selective_scan_cuda_oflex.fwd(*given.values(), True, 1, False)
    core, _ = selective_scan_cuda_core.fwd(*given.values(), True, 1)
    assert narrow.dtype == core.dtype == torch.half and torch.equal(narrow, core)
    leaves = as_leaves({k: v.double() for k, v in given.items()})
    v = torch.randn_like(out)
    want = gradients(scan_loop(**leaves, delta_softplus=True)[0], leaves, v.double())
    for module in (selective_scan_cuda_oflex, selective_scan_cuda_core):
        got = dict(zip(leaves, module.bwd(*given.values(), v, x, True, 1), strict=True))
        assert all(got[k].dtype == given[k].dtype for k in got)
        assert_all(got, want, 2e-3)


def test_oflex_shares_step_sizes():
    """delta and delta_bias of two channels serve four of u."""
    given = inputs(groups=1, extras="D delta_bias")
    few = {"delta": given["delta"][:, :2], "delta_bias": given["delta_bias"][:2]}
    spread = {k: v.repeat_interleave(2, 1 if v.dim() == 3 else 0) for k, v in few.items()}
    out, _ = selective_scan_cuda_oflex.fwd(*(given | few).values(), True, 1, True)
    assert relative_error(out, scan_loop(**(given | spread), delta_softplus=True)[0]) < TINY
    leaves = as_leaves(given | few)
    shared = {
        k: v.repeat_interleave(2, 1 if v.dim() == 3 else 0) for k, v in leaves.items() if k in few
    }
    v = torch.randn_like(out)
    want = gradients(scan_loop(**(leaves | shared), delta_softplus=True)[0], leaves, v)
    got = selective_scan_cuda_oflex.bwd(*leaves.values(), v, None, True, 1)
    assert_all(dict(zip(leaves, got, strict=True)), want)


@pytest.mark.parametrize("backend", [None, "oflex", "core", "mamba", "torch"])
def test_selective_scan_of_vmamba(backend):
    given = {
        k: v.bfloat16() if v.dim() > 2 else v.float()
        for k, v in inputs(groups=2, extras="D").items()
    }
    out = vmamba.selective_scan_fn(**given, backend=backend)
    assert out.dtype == (torch.bfloat16 if backend in ("core", "mamba") else torch.float32)
    expected, _ = scan_loop(**{k: v.double() for k, v in given.items()}, delta_softplus=True)
    assert relative_error(out, expected) < (1e-6 if out.dtype == torch.float32 else 1e-2)
    assert vmamba.selective_scan_fn(**given, oflex=False).dtype == torch.bfloat16


def test_autocast_rounds_no_output_that_is_asked_for_in_float32():
    given = {k: v.float() for k, v in inputs(groups=2, extras="D").items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = vmamba.selective_scan_fn(**given)
    assert torch.equal(out, vmamba.selective_scan_fn(**given))


@pytest.mark.parametrize("scans", [0, 1, 2])
@pytest.mark.parametrize("first", [True, False])
def test_cross_scan_of_vmamba(scans, first):
    x = torch.randn(B, D, 2, 3)
    rows, columns = x.flatten(2), x.mT.flatten(2)
    expected = {
        0: [rows, columns, rows.flip(-1), columns.flip(-1)],
        1: [rows] * 4,
        2: [rows, rows, rows.flip(-1), rows.flip(-1)],
    }[scans]
    out = vmamba.cross_scan_fn(x, out_channel_first=first, scans=scans)
    stacked = torch.stack(expected, 1)
    assert torch.equal(out, stacked if first else stacked.permute(0, 3, 1, 2))
    # its transpose: <cross_scan x, y> = <x, cross_merge y>
    y = torch.randn(B, 4, D, 2, 3)
    merged = vmamba.cross_merge_fn(y, scans=scans)
    assert torch.allclose((stacked * y.flatten(3)).sum(), (rows * merged).sum(), rtol=1e-4)


def inner_loop(xz, conv_w, conv_b, x_w, dt_w, out_w, out_b, A, B, C, D, bias, B_bias, C_bias, rms):
    """The block between its projections, delta formed; rms = (weights of B, C, delta)."""

    def normed(M, weight):
        return (
            M if weight is None else M * (M.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * weight
        )

    x, z = xz.chunk(2, 1)
    width, R = conv_w.shape[-1], dt_w.shape[1]
    x = silu(conv1d(pad(x, (width - 1, 0)), conv_w, conv_b, groups=x.shape[1]))
    p = x.mT @ x_w.T
    states = A.shape[1] * (2 if A.is_complex() else 1)

    def projected(given, first, added, weight):
        if given is not None:
            return given
        M = normed(p[..., first : first + states] + (0 if added is None else added), weight)
        return M.unflatten(-1, (N, -1)).permute(0, 2, 1, 3).flatten(2) if A.is_complex() else M.mT

    B_full = projected(B, R, B_bias, rms[0])
    C_full = projected(C, p.shape[-1] - states, C_bias, rms[1])
    delta = normed(p[..., :R] @ dt_w.T, rms[2]).mT
    out, _ = scan_loop(x, delta, A, B_full, C_full, D, z, bias, True)
    out = out.mT @ out_w.T
    return out if out_b is None else out + out_b


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
    out = mamba_ssm.mamba_inner_fn(*given, **named)
    expected = inner_loop(*given, rms)
    assert out.shape == (B, L, 5) and relative_error(out, expected) < TINY
    present = [t for t in leaves if t is not None]
    v = torch.randn_like(out)
    pairs = zip(*(torch.autograd.grad(y, present, v) for y in (out, expected)), strict=True)
    assert all(relative_error(a, b) < TINY for a, b in pairs)
    if not extra:
        assert torch.equal(mamba_ssm.mamba_inner_ref(*given), out)


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
    out = mamba_ssm.selective_state_update(part, u, dt.requires_grad_(), *arguments)
    assert torch.autograd.grad(out.sum(), dt)[0].isfinite().all()


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
    bias = torch.randn(8)
    out = mamba_ssm.layer_norm_fn(x.float(), weight, bias)
    want = torch.nn.functional.layer_norm(x.float(), (8,), weight, bias, 1e-6)
    assert relative_error(out, want) < 1e-5


@pytest.mark.parametrize("conj", [True, False])
def test_log_vandermonde_of_s4(conj):
    v = torch.randn(2, 3, N, dtype=torch.complex128, requires_grad=True)
    x = torch.complex(-torch.rand(3, N).double(), torch.randn(3, N).double()).requires_grad_()
    out = s4.log_vandermonde(v, x, 9, conj)
    matrix = torch.exp(x[..., None] * torch.arange(9))
    expected = (v[..., None, :] @ matrix)[..., 0, :]
    expected = 2 * expected.real if conj else expected
    assert relative_error(out, expected) < TINY
    w = torch.randn_like(out)
    pairs = zip(*(torch.autograd.grad(y, (v, x), w) for y in (out, expected)), strict=True)
    assert all(relative_error(a, b) < TINY for a, b in pairs)
    assert (
        s4.log_vandermonde(v.to(torch.complex64), x.to(torch.complex64), 4).dtype == torch.float32
    )


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: vmamba.cross_scan_fn(torch.zeros(1, 1, 2, 2), scans=3), "scans=3"),
        (lambda: vmamba.selective_scan_fn(**inputs(extras=""), backend="nd"), "backend='nd'"),
        (lambda: mamba_ssm.rms_norm_fn(*[torch.ones(2)] * 2, None, x1=torch.ones(2)), "x1"),
        (lambda: s4.log_vandermonde(*[torch.ones(1, 1) + 0j] * 2, 3), "modes that grow"),
    ],
)
def test_what_is_not_covered_says_so(call, match):
    with pytest.raises(NotCoveredError, match=f"does not cover .*{match}.*what serves: "):
        call()
