# SPDX-License-Identifier: MIT
"""Properties of `cross_selective_scan` itself, on every backend, in float64."""

from __future__ import annotations

import harness
import pytest
import torch
import torch._dynamo.testing
from hypothesis import given
from hypothesis import strategies as st

from ssno_kernels import cross_selective_scan, registry, selective_scan
from ssno_kernels.ops.cross_selective_scan import CROSS_2D, CROSS_3D, CROSS_3D_BOTH, Traversal
from ssno_kernels.ops.cross_selective_scan.reference import points
from ssno_kernels.ops.cross_selective_scan.spec import (
    SPEC,
    channels_last,
    make_inputs,
    transposed_grid,
)
from ssno_kernels.ops.cross_selective_scan.traversals import lay_out, put_back

BACKENDS = harness.compared(SPEC)
KERNELS = [b for b in BACKENDS if b != "composite"]
each_backend = pytest.mark.parametrize("backend", BACKENDS)
each_kernel = pytest.mark.parametrize("backend", KERNELS)
TINY = 1e-12

few = harness.property_of(5)
grids = st.lists(st.integers(1, 3), min_size=2, max_size=3).map(tuple)
sizes = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 2),
        "channels": st.sampled_from([1, 3, 17]),
        "states": st.integers(1, 5),
        "rank": st.integers(0, 2),
        "grid": grids,
        "seed": st.integers(0, 1000),
    }
)


def inputs_on(backend: str, **sizes) -> dict:
    return harness.to_device(make_inputs(torch.float64, **sizes), harness.need(SPEC.name, backend))


def all_traversals(grid: tuple[int, ...]) -> tuple[Traversal, ...]:
    return CROSS_2D if len(grid) == 2 else CROSS_3D_BOTH


def one(inputs: dict, k: int) -> dict:
    """The inputs of traversal k alone."""
    of_batch = {name: inputs[name][:, k : k + 1] for name in ("delta", "B", "C")}
    names = ("A", "D", "delta_bias", "delta_weight")
    parameters = {name: inputs[name][k : k + 1] for name in names if name in inputs}
    return inputs | of_batch | parameters | {"traversals": inputs["traversals"][k : k + 1]}


def assert_same(value: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.norm() > 0, "two zeros are no evidence"
    assert harness.relative_error(value, expected) < TINY


def test_traversals_are_what_their_names_say():
    numbered = torch.arange(6).view(2, 3)
    orders = [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5]]
    orders += [order[::-1] for order in orders]
    assert [lay_out(numbered, t).tolist() for t in CROSS_2D] == orders
    assert len(set(CROSS_3D)) == 6 and len(set(CROSS_3D_BOTH)) == 12
    assert {t.axes for t in CROSS_3D} == {t.axes for t in CROSS_3D_BOTH}


@pytest.mark.parametrize("traversal", CROSS_3D_BOTH, ids=str)
def test_permutation_visits_the_points_of_the_reference(traversal):
    grid = (2, 3, 4)
    numbered = torch.arange(24).view(grid)
    row = lay_out(numbered, traversal)
    assert row.tolist() == [numbered[p].item() for p in points(traversal, grid)]
    assert torch.equal(put_back(row, traversal, numbered.shape), numbered)


@each_backend
@few
@given(sizes=sizes, data=st.data())
def test_traversal_is_permute_run_unpermute(backend, sizes, data):
    """By `selective_scan`, a kernel that knows nothing of grids."""
    traversal = data.draw(st.sampled_from(all_traversals(sizes["grid"])))
    inputs = inputs_on(backend, **sizes, traversals=(traversal,))
    out = cross_selective_scan(**inputs, backend=backend)
    rows = {name: lay_out(inputs[name][:, 0], traversal) for name in ("delta", "B", "C")}
    names = ("A", "D", "delta_bias", "delta_weight")
    rows |= {name: inputs[name][0] for name in names if name in inputs}
    row = selective_scan(
        lay_out(inputs["x"], traversal), **rows, delta_softplus=True, backend="reference"
    )
    assert_same(out, put_back(row, traversal, inputs["x"].shape[2:]))


@each_backend
@few
@given(sizes=sizes, data=st.data())
def test_merge_is_the_sum_of_single_runs(backend, sizes, data):
    kinds = st.sampled_from(all_traversals(sizes["grid"]))
    traversals = tuple(data.draw(st.lists(kinds, min_size=1, max_size=4)))
    inputs = inputs_on(backend, **sizes, traversals=traversals)
    runs = [cross_selective_scan(**one(inputs, k), backend=backend) for k in range(len(traversals))]
    assert_same(cross_selective_scan(**inputs, backend=backend), sum(runs))
    stacked = cross_selective_scan(**inputs, merge="stack", backend=backend)
    assert_same(stacked, torch.stack(runs, dim=1))


@each_backend
@few
@given(sizes=sizes)
def test_transposing_the_grid_swaps_rows_and_columns(backend, sizes):
    """Outputs and gradients, for views that are not copied."""
    sizes = sizes | {"grid": sizes["grid"][:2]}
    inputs = inputs_on(backend, **sizes)
    turned = inputs | {name: inputs[name].mT for name in ("x", "delta", "B", "C")}
    turned["traversals"] = [Traversal(t.axes[::-1], t.reverse) for t in inputs["traversals"]]
    out = cross_selective_scan(**inputs, backend=backend)
    assert_same(cross_selective_scan(**turned, backend=backend).mT, out)
    (v,) = harness.cotangents_for((out,))
    gradients = harness.run(SPEC, inputs, backend, [v])
    for name, gradient in harness.run(SPEC, turned, backend, [v.mT]).items():
        back = gradient.mT if name[2:] in ("x", "delta", "B", "C") or name == "out0" else gradient
        assert harness.relative_error(back, gradients[name]) < TINY, name


@each_backend
def test_reversed_traversal_is_flip_run_flip(backend):
    inputs = inputs_on(backend, grid=(3, 4), traversals=CROSS_2D[2:])
    flipped = inputs | {name: inputs[name].flip(-1, -2) for name in ("x", "delta", "B", "C")}
    out = cross_selective_scan(**(flipped | {"traversals": CROSS_2D[:2]}), backend=backend)
    assert_same(cross_selective_scan(**inputs, backend=backend), out.flip(-1, -2))


@each_backend
@pytest.mark.parametrize("layout", [lambda inputs: inputs, channels_last])
def test_layout_of_the_stack(backend, layout):
    """Each of the stacked results lies as x does."""
    inputs = layout(inputs_on(backend, grid=(2, 3), batch=2))
    out = cross_selective_scan(**inputs, merge="stack", backend=backend)
    assert out.stride(1) == inputs["x"].stride(0)
    assert out[:, 0].stride()[1:] == inputs["x"].stride()[1:]


@each_backend
def test_nan_stays_in_its_channel(backend):
    inputs = inputs_on(backend, batch=2, traversals=CROSS_2D)
    clean = cross_selective_scan(**inputs, backend=backend)
    inputs["A"][2, 1, 0] = float("nan")
    spoiled = cross_selective_scan(**inputs, backend=backend)
    assert spoiled[:, 1].isnan().all()
    assert torch.equal(spoiled[:, ::2], clean[:, ::2])


@each_backend
def test_plain_pairs_and_lists_serve_as_traversals(backend):
    inputs = inputs_on(backend, traversals=CROSS_2D)
    expected = cross_selective_scan(**inputs, backend=backend)
    inputs["traversals"] = [([0, 1], False), ((1, 0), False), ((0, 1), True), ((1, 0), True)]
    assert torch.equal(cross_selective_scan(**inputs, backend=backend), expected)


@each_kernel
def test_checkpoints_are_saved_only_for_gradients(backend):
    inputs = inputs_on(backend, grid=(9, 8))
    with harness.RecordKernels() as record:
        cross_selective_scan(**inputs, backend=backend)
        cross_selective_scan(**(inputs | {"x": inputs["x"].requires_grad_()}), backend=backend)
    sizes = [outputs[1].numel() for _, _, outputs in record.calls]
    assert sizes[0] == 0 and sizes[1] > 0


@each_kernel
@pytest.mark.parametrize(
    "grid, traversals, layout",
    [
        ((19, 37), CROSS_2D, lambda inputs: inputs),
        ((37, 16), CROSS_2D[1::2], transposed_grid),
        ((5, 3, 18), CROSS_3D_BOTH[5::6], lambda inputs: inputs),
        ((2, 33, 17), CROSS_3D_BOTH[1:3], transposed_grid),
    ],
    ids=["rows-and-columns", "transposed", "3d", "3d-transposed"],
)
def test_grids_of_more_columns_than_a_vector_has_lanes(backend, grid, traversals, layout):
    if backend == "triton" and registry.interpreting():
        pytest.skip("Triton's interpreter would take minutes, and its kernels have no lanes")
    sizes = dict(grid=grid, traversals=traversals, channels=17, states=5, rank=1, batch=2)
    inputs = layout(inputs_on(backend, **sizes))
    (v,) = harness.cotangents_for((cross_selective_scan(**inputs, backend="composite"),))
    expected = harness.run(SPEC, inputs, "composite", [v])
    for name, value in harness.run(SPEC, inputs, backend, [v]).items():
        assert harness.relative_error(value, expected[name]) < TINY, name


def test_low_rank_delta_is_never_formed():
    """A (B, K, D, *grid) tensor is 64 MiB here; the results are half as large, and come off."""
    pytest.importorskip("psutil", reason="bench/requirements.txt is not installed")
    from bench import memory

    harness.need(SPEC.name, "cpu")
    inputs = make_inputs(
        torch.float32, channels=256, grid=(128, 128), states=1, traversals=CROSS_2D, rank=1
    )
    leaves = {k: v.requires_grad_() for k, v in inputs.items() if isinstance(v, torch.Tensor)}
    whole = 4 * 4 * 256 * 128 * 128

    def forward() -> torch.Tensor:
        with torch.no_grad():
            return cross_selective_scan(**inputs, backend="cpu")

    def both() -> list[torch.Tensor]:
        out = cross_selective_scan(**(inputs | leaves), backend="cpu")
        return [out, *torch.autograd.grad(out, list(leaves.values()), v_out)]

    v_out = torch.ones_like(forward())
    for call in (lambda: [forward()], both):
        results, extra = memory.peak(call, "cpu")
        assert sum(t.nbytes for t in results) < whole
        assert extra - sum(t.nbytes for t in results) < whole / 4
