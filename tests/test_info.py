# SPDX-License-Identifier: MIT
"""`python -m ssno_kernels info` says for each backend that it serves, or why it does not."""

from __future__ import annotations

import re
import sys

import pytest
import torch

from ssno_kernels import __main__ as command
from ssno_kernels import registry


def run(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["ssno_kernels", *arguments])
    command.main()
    return capsys.readouterr().out


def test_names_versions_and_every_backend(monkeypatch, capsys):
    text = run(monkeypatch, capsys, "info")
    assert torch.__version__ in text
    for operator in registry.OPERATORS:
        assert f"{operator} on cpu" in text
        for backend in registry.BACKENDS:
            reason = registry.why_not(operator, backend, "cpu")
            state = "serves" if reason is None else f"no: {reason}"
            assert f"{backend:10} {state}" in text


def test_tells_why_there_is_no_extension(monkeypatch, capsys):
    monkeypatch.setattr(registry.extension.cpu, "why_not", lambda: "no C++ compiler was found")
    text = run(monkeypatch, capsys, "info")
    assert "extension            none: no C++ compiler was found" in text
    assert "-> composite" in text


def test_tells_what_is_missing_where_there_is_no_nvcc(monkeypatch, capsys):
    monkeypatch.setenv("CUDA_HOME", "/nonexistent")
    text = run(monkeypatch, capsys, "info")
    expected = (
        r"nvcc +none: nvcc was not found \(CUDA_HOME=/nonexistent\) .*the CUDA toolkit has it"
    )
    assert re.search(expected, text)


def test_a_wrong_instruction_set_is_named(monkeypatch, capsys):
    if registry.extension.cpu.why_not():
        pytest.skip(registry.extension.cpu.why_not())
    monkeypatch.setenv("SSNO_ISA", "sse9")
    assert "SSNO_ISA is 'sse9'; expected avx512, avx2 or plain" in run(monkeypatch, capsys, "info")


def test_needs_a_command(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys)
    assert "required: command" in capsys.readouterr().err
