# SPDX-License-Identifier: MIT
"""Arguments that do not fit are refused by name; those that fit are not modified."""

from __future__ import annotations

import re

import harness
import pytest
import torch


@pytest.mark.parametrize(
    "spec, bad",
    [pytest.param(s, b, id=f"{s.name}-{b.name}") for s in harness.SPECS for b in s.bad_inputs],
)
def test_bad_input_is_refused(spec, bad):
    with pytest.raises(bad.error, match=bad.match):
        spec.function(**bad.change(harness.first_core(spec, torch.float32)))


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
def test_bad_inputs_are_bad_by_their_change_alone(spec):
    spec.function(**harness.first_core(spec, torch.float32), backend="reference")


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda s: s.name)
def test_errors_name_every_argument(spec):
    """The table holds at least one refusal for each argument that a good call has."""
    named = {re.match(r"\w+", bad.match.lstrip("^("))[0] for bad in spec.bad_inputs}
    assert not harness.tensors(harness.first_core(spec)).keys() - named


@pytest.mark.parametrize("spec, backend, sample", harness.cases())
def test_inputs_are_not_modified(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    before = {k: x.clone() for k, x in harness.tensors(inputs).items()}
    outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
    harness.run(spec, inputs, backend, harness.cotangents_for(outputs))
    for name, x in harness.tensors(inputs).items():
        assert torch.equal(x, before[name]), name
