# SPDX-License-Identifier: MIT
"""The stand-ins for the functions of VMamba, against plain loops and permutations."""

from __future__ import annotations

import pytest
import torch
from compat_loops import B, D, inputs, scan_loop
from harness import relative_error

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
