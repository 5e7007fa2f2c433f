# SPDX-License-Identifier: MIT
# ruff: noqa: E402 (what bench/ imports is optional, and asked for first)
"""The model that MambaNO2d's training step is measured against is the same model."""

from __future__ import annotations

import pytest
import torch

for needed in ("mambapy", "psutil", "cpuinfo"):
    pytest.importorskip(needed, reason="bench/requirements.txt is not installed")

from bench import mambano
from ssno_kernels.models import MambaNO2d
from ssno_kernels.nn import AliasFreeActivation, CrossSelectiveScan


def test_plain_model_has_the_same_outputs_and_gradients():
    torch.manual_seed(0)
    model = MambaNO2d(1, 1, width=2, states=3, hidden=4)
    written = mambano.plain(model)
    ours = (AliasFreeActivation, CrossSelectiveScan)
    called = []
    for module in written.modules():
        if isinstance(module, ours):
            module.register_forward_hook(lambda *_: called.append(1))
    x, y = mambano.fields(2, 16)
    out, gradient = mambano.first_step(model, x, y)
    expected, other = mambano.first_step(written, x, y)
    assert not called and expected.norm() > 0
    assert (out - expected).norm() < mambano.TOLERANCE * expected.norm()
    assert (gradient - other).norm() < 1e-3 * other.norm()


def test_report_of_a_step(tmp_path, capsys):
    sizes = ["--width", "2", "--batch", "2", "--size", "8", "--steps", "1", "--plain-steps", "1"]
    assert mambano.main([*sizes, "--out", str(tmp_path)]) == 0
    assert "times faster" in capsys.readouterr().out
    assert len(list(tmp_path.glob("mambano-*.json"))) == 1
