# SPDX-License-Identifier: MIT
"""Packed sequences: each as if it were alone, on every backend."""

from __future__ import annotations

from itertools import pairwise

import harness
import pytest
import torch

from ssno_kernels import selective_scan, seq_idx_from_cu_seqlens
from ssno_kernels.ops.selective_scan import composite, packed_operator
from ssno_kernels.ops.selective_scan.arguments import Arguments
from ssno_kernels.ops.selective_scan.spec import SPEC, channels_last, make_inputs

TINY = 1e-12
ROWS = torch.tensor([[0] * 7 + [1] + [5] * 13, [3] * 7 + [4] * 12 + [0] * 2])  # L = 21
OPTIONS = {
    "plain": dict(kind_B="grouped"),
    "complex-reverse": dict(is_complex=True, kind_C="constant", reverse=True),
    "low-rank": dict(rank=2, kind_B="constant"),
}


def alone(inputs: dict, seq_idx: torch.Tensor, backend: str) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, final state) by a call for every sequence of every row."""
    entries = 2 if inputs["A"].is_complex() else 1
    outs, states = [], []
    for b, row in enumerate(seq_idx.expand(2, -1).tolist()):
        edges = [0, *(t for t in range(1, len(row)) if row[t] != row[t - 1]), len(row)]
        pieces = list(pairwise(edges))
        parts = {}
        order = pieces[::-1] if inputs.get("reverse") else pieces
        for first, last in order:
            part = dict(inputs)
            for name in ("u", "delta", "z", "B", "C"):
                x = part.get(name)
                if x is not None and x.dim() > 2:
                    n = entries if name in "BC" else 1
                    part[name] = x[b : b + 1, ..., n * first : n * last]
            if (first, last) == order[0]:
                part["initial_state"] = inputs["initial_state"][b : b + 1]
            else:
                part["initial_state"] = None
            parts[first], state = selective_scan(**part, backend=backend)
        outs.append(torch.cat([parts[first] for first, _ in pieces], -1))
        states.append(state)
    return torch.cat(outs), torch.cat(states)


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch):
    """So that sequences end inside and at the ends of the composite's chunks."""
    monkeypatch.setattr(composite, "CHUNK", 4)


@pytest.fixture
def told(request, monkeypatch):
    """Whether the composite may know the length, which for torch.compile can be a symbol."""
    if not request.param:
        monkeypatch.setattr(composite, "is_symbol", lambda size: True)


def cases():
    for backend in harness.compared(SPEC):
        names = list(OPTIONS)[:1] if harness.simulated(backend) else OPTIONS
        yield from ((backend, True, name) for name in names)
    yield from (("composite", False, name) for name in OPTIONS)


@pytest.mark.parametrize("backend, told, options", cases(), indirect=["told"])
def test_sequences_are_as_if_alone(backend, told, options):
    """Two rows that start sequences at the same and at different steps; gradients of all."""
    device = harness.need(SPEC.name, backend)
    inputs = harness.to_device(make_inputs(torch.float64, **OPTIONS[options]), device)
    leaves = {k: x.requires_grad_() for k, x in harness.tensors(inputs).items()}
    results = selective_scan(**inputs, seq_idx=ROWS.to(device), backend=backend)
    expected = alone(inputs, ROWS, "reference")
    cotangents = [v.to(device) for v in harness.cotangents_for(expected)]
    for value, reference in zip(results, expected, strict=True):
        assert harness.relative_error(value, reference) < TINY
    v, want = (
        torch.autograd.grad(r, list(leaves.values()), cotangents) for r in (results, expected)
    )
    for name, x, reference in zip(leaves, v, want, strict=True):
        assert harness.relative_error(x, reference) < TINY, name


@pytest.mark.parametrize("backend", [b for b in harness.compared(SPEC) if not harness.simulated(b)])
@pytest.mark.parametrize("options", OPTIONS)
def test_traced(backend, options):
    """In one graph, which serves other sequences as well: results and gradients as without."""
    device = harness.need(SPEC.name, backend)
    inputs = harness.to_device(make_inputs(torch.float64, **OPTIONS[options]), device)
    compiled = torch.compile(selective_scan, fullgraph=True, backend="aot_eager")
    needed = set(harness.tensors(inputs))
    for rows in (ROWS, ROWS.roll(3, 1), torch.zeros_like(ROWS)):
        call = (SPEC, inputs | {"seq_idx": rows.to(device)}, backend)
        cotangents = harness.cotangents_for(tuple(harness.run(*call, needed=needed).values()))
        expected = harness.run(*call, cotangents, needed)
        with torch.compiler.set_stance("default" if rows is ROWS else "fail_on_recompile"):
            results = harness.run(*call, cotangents, needed, compiled)
        harness.assert_close(results, expected, TINY)


@pytest.mark.parametrize("options", OPTIONS)
def test_operators_pass_opcheck(options):
    harness.need(SPEC.name, "cpu")
    inputs = make_inputs(torch.float32, **OPTIONS[options])
    options = {k: inputs.pop(k, False) for k in ("delta_softplus", "reverse")}
    want_state = inputs.pop("return_final_state")
    tensors = {
        k: inputs[k].requires_grad_() if k in inputs else None for k in Arguments._fields[:10]
    }
    with harness.RecordKernels() as kernels:
        arguments = Arguments(**tensors, **options)
        out, state = packed_operator.selective_scan("cpu", want_state, arguments, ROWS)
        (out.sum() + state.abs().sum()).backward()
    packed = [call for call in kernels.calls if "packed" in str(call[0])]
    assert len(packed) == 2
    for operator, arguments, _ in packed:
        detached = (x.detach() if isinstance(x, torch.Tensor) else x for x in arguments)
        torch.library.opcheck(operator, tuple(detached))


@pytest.mark.parametrize(
    "backend, told",
    [(b, True) for b in harness.compared(SPEC) if not harness.simulated(b)]
    + [("composite", False)],
    indirect=["told"],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_nothing_leaks(backend, told, reverse):
    """NaN in one sequence leaves its neighbours as they were, forward and backward."""
    device = harness.need(SPEC.name, backend)
    inputs = harness.to_device(make_inputs(torch.float32, reverse=reverse, extras="z"), device)
    seq_idx = ROWS.to(device)
    spoiled = inputs | {"u": inputs["u"].masked_fill((seq_idx == 4)[:, None], float("nan"))}
    clean = ~(seq_idx == 4)[:, None].expand_as(inputs["u"])
    outs = []
    for given in (inputs, spoiled):
        u = given["u"].clone().requires_grad_()
        out = selective_scan(**(given | {"u": u}), seq_idx=seq_idx, backend=backend)
        v_out = torch.where(out.isnan(), out.detach(), 1)
        [v_u] = torch.autograd.grad(out, u, v_out)
        outs.append((out[clean], v_u[clean]))
    assert outs[1][0].isfinite().all() and outs[1][1].isfinite().all()
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_from_cumulative_lengths(dtype):
    """One row; an empty sequence takes no step."""
    cu_seqlens = torch.tensor([0, 7, 8, 8, 21], dtype=dtype)
    seq_idx = seq_idx_from_cu_seqlens(cu_seqlens)
    assert seq_idx.tolist() == [[0] * 7 + [1] + [3] * 13]
    assert torch.equal(seq_idx, seq_idx_from_cu_seqlens(cu_seqlens, 21))
    inputs = make_inputs(torch.float64)
    out, state = selective_scan(**inputs, seq_idx=seq_idx, backend="composite")
    expected, last = alone(inputs, seq_idx, "reference")
    assert harness.relative_error(out, expected) < TINY
    assert harness.relative_error(state, last) < TINY


def test_layout_is_kept():
    inputs = channels_last(make_inputs(torch.float64, extras=""))
    out = selective_scan(**inputs, seq_idx=ROWS)
    assert out.stride() == inputs["u"].stride()
    assert selective_scan(**make_inputs(torch.float32), seq_idx=ROWS)[0].is_contiguous()


def test_one_sequence_is_the_scan():
    inputs = make_inputs(torch.float64, reverse=True)
    results = selective_scan(**inputs, seq_idx=torch.zeros(1, 21, dtype=torch.int32))
    assert all(torch.equal(a, b) for a, b in zip(results, selective_scan(**inputs), strict=True))


@pytest.mark.parametrize(
    "seq_idx, error, match",
    [
        ([0] * 21, TypeError, "seq_idx is of type list"),
        (ROWS[:, 1:], ValueError, r"seq_idx has shape \(2, 20\); expected \(B or 1, L\) = \(2, 21"),
        (ROWS.expand(1, 2, 21), ValueError, "seq_idx has shape"),
        (ROWS.float(), ValueError, "seq_idx has dtype torch.float32"),
        (ROWS.to("meta"), ValueError, "seq_idx is on meta"),
    ],
)
def test_bad_seq_idx_is_named(seq_idx, error, match):
    with pytest.raises(error, match=match):
        selective_scan(**make_inputs(torch.float32), seq_idx=seq_idx)


@pytest.mark.parametrize(
    "cu_seqlens, error, match",
    [
        ([0, 3], TypeError, "cu_seqlens is of type list"),
        (torch.tensor([0]), ValueError, r"shape \(1,\)"),
        (torch.tensor([0.0, 3.0]), ValueError, "dtype torch.float32"),
        (torch.tensor([0, 3, 2]), ValueError, "start with 0 and not to fall"),
        (torch.tensor([1, 3]), ValueError, "start with 0"),
    ],
)
def test_bad_lengths_are_named(cu_seqlens, error, match):
    with pytest.raises(error, match=match):
        seq_idx_from_cu_seqlens(cu_seqlens)
