# SPDX-License-Identifier: MIT
"""What every operator promises of every backend: layout kept, same result on every run."""

from __future__ import annotations

from pathlib import Path

import harness
import pytest
import torch


def layout(x: torch.Tensor) -> list[int]:
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


def is_dense(x: torch.Tensor) -> bool:
    """Whether its elements fill a block of memory, in any order of the axes."""
    return layout(torch.empty_like(x)) == layout(x)


def order(x: torch.Tensor, among: list[bool]) -> list[int]:
    """Those of its axes from the slowest to the fastest in memory."""
    axes = [axis for axis, one in enumerate(among) if one]
    return sorted(axes, key=lambda axis: -x.stride(axis))


@pytest.mark.parametrize("spec, backend, sample", harness.cases(every_sample=True))
def test_output_keeps_the_layout(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    first = next(iter(harness.tensors(inputs).values()))
    out = harness.run(spec, inputs, backend)["out0"]
    if is_dense(first):
        among = [n > 1 and m > 1 for n, m in zip(out.shape, first.shape, strict=True)]
        assert is_dense(out)
        assert order(out, among) == order(first, among)
    else:
        assert out.is_contiguous()


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
def test_samples_cover_the_layouts(spec):
    firsts = [next(iter(harness.tensors(s.make(torch.float32)).values())) for s in spec.samples]
    assert any(is_dense(x) and not x.is_contiguous() for x in firsts), "a channels-last one"
    assert any(not is_dense(x) for x in firsts), "one with holes"


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_runs_are_bitwise_equal(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    cotangents = harness.cotangents_for(harness.as_tuple(spec.function(**inputs, backend=backend)))
    first = harness.run(spec, inputs, backend, cotangents)
    for name, result in harness.run(spec, inputs, backend, cotangents).items():
        assert torch.equal(result, first[name]), name


def far_apart(inputs: dict, file: Path) -> dict:
    """The same values, entries of the first axis more than 2^31 elements apart.

    Pages of a new file that nobody touches cost nothing.
    """
    far, room = 2**31 + 64, 2**16
    given = harness.tensors(inputs)
    most = max(x.shape[0] for x in given.values())
    size = (most * far + len(given) * room) * max(x.element_size() for x in given.values())
    memory = torch.from_file(str(file), shared=True, size=size, dtype=torch.uint8)
    moved = {}
    for i, (name, x) in enumerate(given.items()):
        strides = (far, *torch.empty(x.shape).stride()[1:])
        moved[name] = memory.view(x.dtype).as_strided(x.shape, strides, i * room).copy_(x)
    return inputs | moved


@pytest.mark.parametrize(
    "spec, backend",
    [
        pytest.param(spec, backend, id=f"{spec.name}-{backend}")
        for spec in harness.SPECS
        for backend in harness.compared(spec)
    ],
)
def test_offsets_have_64_bits(spec, backend, tmp_path):
    if harness.need(spec.name, backend) != "cpu":
        pytest.skip("a device has no memory that costs nothing")
    inputs = harness.first_core(spec, torch.float32)
    expected, cotangents = harness.truth(spec, inputs)
    results = harness.run(spec, far_apart(inputs, tmp_path / "memory"), backend, cotangents)
    harness.assert_close(results, expected, spec.tolerances[torch.float32])
