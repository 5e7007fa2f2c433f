# SPDX-License-Identifier: MIT
"""The stand-ins for the functions of VMamba, against plain loops and permutations."""

from __future__ import annotations

import pytest
import torch
from compat_loops import TINY, B, D, as_leaves, assert_all, gradients, inputs, scan_loop
from harness import relative_error
from torch import Tensor

from ssno_kernels.compat import NotCoveredError, vmamba


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


def test_gradients_of_the_scan_of_vmamba():
    leaves = as_leaves(inputs(groups=2, extras="D delta_bias"))
    out = vmamba.selective_scan_fn(**leaves)
    expected, _ = scan_loop(**leaves, delta_softplus=True)
    assert relative_error(out, expected) < TINY
    v = torch.randn_like(out)
    assert_all(gradients(out, leaves, v), gradients(expected, leaves, v))


def test_autocast_rounds_no_output_that_is_asked_for_in_float32():
    given = {k: v.float() for k, v in inputs(groups=2, extras="D").items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = vmamba.selective_scan_fn(**given)
    assert torch.equal(out, vmamba.selective_scan_fn(**given))


def test_operations_of_a_traced_scan():
    """What fvcore hands over are values of a graph, with their shapes."""
    graph = torch._C.parse_ir(
        "graph(%u : Float(2, 4, 5), %delta : Float(2, 4, 5), %A : Float(4, 3)):\n  return (%u)"
    )
    operations = vmamba.selective_scan_flop_jit([*graph.inputs()], [*graph.outputs()])
    assert operations == 2 * 4 * 5 * (9 * 3 + 1)


@pytest.mark.parametrize("scans", [0, 1, 2])
@pytest.mark.parametrize("in_first", [True, False])
@pytest.mark.parametrize("out_first", [True, False])
@pytest.mark.parametrize("one_by_one", [False, True])
def test_cross_scan_of_vmamba(scans, in_first, out_first, one_by_one):
    """Permutations, and cross_merge as their transpose, in every layout; gradients of both."""

    def as_grid(t: Tensor, first: bool) -> Tensor:
        return t if first else t.movedim((-2, -1), (1, 2))

    def as_sequence(t: Tensor, first: bool) -> Tensor:
        return t.flatten(-2) if first else t.flatten(1, 2)

    x = torch.randn(B, *([4] if one_by_one else []), D, 2, 3, dtype=torch.float64).requires_grad_()
    each = x if one_by_one else x[:, None].expand(-1, 4, -1, -1, -1)
    rows, columns = each.flatten(3), each.mT.flatten(3)
    orders = {
        0: [rows, columns, rows.flip(-1), columns.flip(-1)],
        1: [rows] * 4,
        2: [rows, rows, rows.flip(-1), rows.flip(-1)],
    }[scans]
    stacked = torch.stack([order[:, k] for k, order in enumerate(orders)], 1)
    out = vmamba.cross_scan_fn(as_grid(x, in_first), in_first, out_first, one_by_one, scans)
    assert torch.equal(out, stacked if out_first else stacked.permute(0, 3, 1, 2))
    y = torch.randn(B, 4, D, 2, 3, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(stacked, x, y.flatten(3), retain_graph=True)
    (v_x,) = torch.autograd.grad(out, x, as_sequence(as_grid(y, out_first), out_first))
    assert relative_error(v_x, expected) < TINY
    merged = vmamba.cross_merge_fn(as_grid(y, out_first), in_first, out_first, one_by_one, scans)
    assert relative_error(merged, as_sequence(as_grid(expected, in_first), in_first)) < TINY
    (v_y,) = torch.autograd.grad(merged, y, as_sequence(as_grid(x, in_first), in_first))
    assert relative_error(v_y.flatten(3), stacked) < TINY


@pytest.mark.parametrize(
    "call, match",
    [
        (lambda: vmamba.cross_scan_fn(torch.zeros(1, 1, 2, 2), scans=3), "scans=3"),
        (lambda: vmamba.selective_scan_fn(**inputs(extras=""), backend="nd"), "backend='nd'"),
    ],
)
def test_what_is_not_covered_says_so(call, match):
    with pytest.raises(NotCoveredError, match=f"does not cover .*{match}.*what serves: "):
        call()
