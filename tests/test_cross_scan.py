# SPDX-License-Identifier: MIT
"""`cross_scan` and `cross_merge` in every layout, against loops over the points of the grid."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck

from ssno_kernels import cross_merge, cross_scan
from ssno_kernels.ops.cross_scan import SCANS
from ssno_kernels.ops.cross_selective_scan import CROSS_3D, CROSS_3D_BOTH, Traversal
from ssno_kernels.ops.cross_selective_scan.reference import points

GRID = (3, 4)
LAYOUTS = [
    dict(zip(("in_channel_first", "out_channel_first", "one_by_one"), flags, strict=True))
    for flags in itertools.product([True, False], repeat=3)
]
each_layout = pytest.mark.parametrize(
    "layout", LAYOUTS, ids=lambda d: "".join(map(str, d.values()))
)
each_kind = pytest.mark.parametrize("scans", SCANS)


def channel_first(v: torch.Tensor, already: bool, axes: int = 1) -> torch.Tensor:
    """(B, *points, ...) as (B, ..., *points)."""
    return v if already else v.movedim(tuple(range(1, 1 + axes)), tuple(range(-axes, 0)))


def channel_last(v: torch.Tensor, wanted: bool, axes: int) -> torch.Tensor:
    return v.movedim(tuple(range(-axes, 0)), tuple(range(1, 1 + axes))) if wanted else v


def random(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def grid_inputs(layout: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """x for `cross_scan` and y for `cross_merge`, of 4 traversals and 2 channels."""
    x = random(2, 4, 2, *GRID) if layout["one_by_one"] else random(2, 2, *GRID)
    y = random(2, 4, 2, *GRID)
    return (
        channel_last(x, not layout["in_channel_first"], 2),
        channel_last(y, not layout["out_channel_first"], 2),
    )


@each_kind
@each_layout
def test_scan_takes_the_points_in_order(layout, scans):
    x, _ = grid_inputs(layout)
    rows = channel_first(cross_scan(x, scans=scans, **layout), layout["out_channel_first"])
    x = channel_first(x, layout["in_channel_first"], 2)
    assert rows.shape == (2, 4, 2, 12)
    for k, traversal in enumerate(SCANS[scans]):
        for t, point in enumerate(points(traversal, GRID)):
            own = x[:, k] if layout["one_by_one"] else x
            assert torch.equal(rows[:, k, :, t], own[(..., *point)])


@each_kind
@each_layout
def test_merge_is_the_transpose_of_scan(layout, scans):
    """<cross_scan(x), y> = <x, cross_merge(y)> for every x and y."""
    x, y = grid_inputs(layout)
    merged = cross_merge(y, scans=scans, **layout)
    rows = cross_scan(x, scans=scans, **layout)
    flat = x.flatten(-2) if layout["in_channel_first"] else x.flatten(1, 2)
    assert merged.shape == flat.shape
    torch.testing.assert_close((rows * y.reshape(rows.shape)).sum(), (merged * flat).sum())


@each_layout
def test_derivatives(layout):
    x, y = (v.requires_grad_() for v in grid_inputs(layout))
    for function, v in ((cross_scan, x), (cross_merge, y)):
        assert gradcheck(lambda v, f=function: f(v, **layout), v, fast_mode=True)
        assert gradgradcheck(lambda v, f=function: f(v, **layout), v, fast_mode=True)


@pytest.mark.parametrize("traversals", [CROSS_3D, CROSS_3D_BOTH, CROSS_3D[2:3]])
def test_grids_of_three_axes(traversals):
    x = random(1, 2, 2, 3, 4)
    rows = cross_scan(x, traversals=traversals)
    for k, traversal in enumerate(traversals):
        order = points(traversal, (2, 3, 4))
        assert torch.equal(rows[:, k], torch.stack([x[(..., *p)] for p in order], dim=-1))
    merged = cross_merge(rows.unflatten(-1, (2, 3, 4)), traversals=traversals)
    torch.testing.assert_close(merged, len(traversals) * x.flatten(2))


def test_compiles_whole():
    x = random(2, 2, *GRID)
    compiled = torch.compile(cross_scan, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), cross_scan(x))


BAD = {
    "scans": (cross_scan, (random(1, 2, 3, 4),), {"scans": 3}, ValueError, "scans is 3; expected"),
    "no-tensor": (cross_scan, (None,), {}, TypeError, "x is of type NoneType"),
    "x-rank": (cross_scan, (random(2, 3, 4),), {}, ValueError, r"x has shape \(2, 3, 4\)"),
    "y-rank": (cross_merge, (random(2, 4, 3, 12),), {}, ValueError, r"y has .*\(B, K, C, \*grid\)"),
    "y-count": (cross_merge, (random(1, 3, 2, 3, 4),), {}, ValueError, "y has values for K = 3"),
    "mixed": (
        cross_scan,
        (random(1, 2, 3, 4),),
        {"traversals": (Traversal((0,)), Traversal((0, 1)))},
        ValueError,
        "expected orders of the same axes",
    ),
    "axis-twice": (
        cross_merge,
        (random(1, 1, 2, 3, 4),),
        {"traversals": (Traversal((0, 0)),)},
        ValueError,
        r"axes \(0, 0\); expected every axis",
    ),
}


@pytest.mark.parametrize("function, given, options, error, match", BAD.values(), ids=BAD)
def test_bad_input_is_refused(function, given, options, error, match):
    with pytest.raises(error, match=match):
        function(*given, **options)
