# SPDX-License-Identifier: MIT
"""`selective_scan_step`, sample after sample, is `selective_scan`."""

from __future__ import annotations

import harness
import pytest
import torch

from ssno_kernels import selective_scan, selective_scan_step
from ssno_kernels.ops.selective_scan.spec import SPEC, make_inputs

STEPPED = [pytest.param(s, id=s.name) for s in SPEC.samples if "low-rank" not in s.name]


def at(M: torch.Tensor, t: int, is_complex: bool) -> torch.Tensor:
    """The t-th sample of a B or C of `selective_scan`."""
    if M.dim() == 2:
        return M[None]
    if is_complex:
        return torch.complex(M[..., 2 * t], M[..., 2 * t + 1])
    return M[..., t]


def stepped(inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
    """(out, final state) of inputs of `selective_scan`."""
    u, A = inputs["u"], inputs["A"]
    state = inputs.get("initial_state")
    if state is None:
        real = torch.promote_types(u.dtype, torch.float32)
        state = torch.zeros(len(u), *A.shape, dtype=A.dtype if A.is_complex() else real)
    outs = []
    for t in range(u.shape[-1]):
        out, state = selective_scan_step(
            state,
            u[..., t],
            inputs["delta"][..., t],
            A,
            at(inputs["B"], t, A.is_complex()),
            at(inputs["C"], t, A.is_complex()),
            inputs.get("D"),
            inputs["z"][..., t] if "z" in inputs else None,
            inputs.get("delta_bias"),
            inputs.get("delta_softplus", False),
        )
        outs.append(out)
    return torch.stack(outs, -1), state


@pytest.mark.parametrize("sample", STEPPED)
def test_steps_are_the_scan(sample):
    inputs = sample.make(torch.float64)
    leaves = {k: x.detach().requires_grad_() for k, x in harness.tensors(inputs).items()}
    inputs |= leaves
    results = stepped(inputs)
    expected = selective_scan(
        **(inputs | {"return_final_state": True, "reverse": False}), backend="reference"
    )
    cotangents = harness.cotangents_for(expected)
    for value, reference in zip(results, expected, strict=True):
        assert value.dtype == reference.dtype
        assert harness.relative_error(value, reference) < 1e-12
    v, v_expected = (
        torch.autograd.grad(r, list(leaves.values()), cotangents) for r in (results, expected)
    )
    for name, x, reference in zip(leaves, v, v_expected, strict=True):
        assert harness.relative_error(x, reference) < 1e-12, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype(dtype):
    inputs = make_inputs(dtype, kind_B="grouped", kind_C="constant")
    out, state = stepped(inputs)
    assert out.dtype == dtype and state.dtype == torch.float32
    (expected, _), bound = stepped(harness.in_float64(inputs)), SPEC.tolerances[dtype]
    assert harness.relative_error(out, expected) < bound


def test_inputs_are_left_alone():
    inputs = make_inputs(torch.float64, length=1)
    before = {k: x.clone() for k, x in harness.tensors(inputs).items()}
    stepped(inputs)
    assert all(torch.equal(inputs[k], x) for k, x in before.items())


def arguments(**changes) -> dict:
    r = torch.randn
    given = {
        "state": r(2, 6, 5), "u_t": r(2, 6), "delta_t": r(2, 6), "A": r(6, 5), "B_t": r(2, 5),
        "C_t": r(2, 3, 5), "D": r(6), "z_t": r(2, 6), "delta_bias": r(6),
    }  # fmt: skip
    return given | changes


@pytest.mark.parametrize(
    "changes, error, match",
    [
        ({"state": torch.zeros(2, 6, 4)}, ValueError, r"state has shape \(2, 6, 4\); expected"),
        ({"state": torch.zeros(2, 6, 5).half()}, ValueError, "state has dtype torch.float16"),
        ({"u_t": torch.zeros(2, 6, 1)}, ValueError, r"u_t has shape .*expected \(B, D >= 1\)"),
        ({"u_t": torch.zeros(2, 6).long()}, ValueError, "u_t has dtype torch.int64"),
        ({"delta_t": None}, TypeError, "delta_t is of type NoneType"),
        ({"A": torch.zeros(5, 5)}, ValueError, r"A has shape \(5, 5\)"),
        ({"B_t": torch.zeros(6, 5)}, ValueError, r"B_t has shape \(6, 5\); expected \(B, N\)"),
        ({"C_t": torch.zeros(2, 4, 5)}, ValueError, "C_t has shape .*a divisor of D = 6"),
        ({"D": torch.zeros(6, 1)}, ValueError, r"D has shape \(6, 1\)"),
        ({"z_t": torch.zeros(2, 6).double()}, ValueError, "z_t has dtype torch.float64"),
        ({"delta_bias": torch.zeros(6, device="meta")}, ValueError, "delta_bias is on meta"),
        ({"delta_softplus": 1}, TypeError, "delta_softplus is 1"),
    ],
)
def test_bad_arguments_are_named(changes, error, match):
    selective_scan_step(**arguments())
    with pytest.raises(error, match=match):
        selective_scan_step(**arguments(**changes))
