# SPDX-License-Identifier: MIT
"""Triton backend of `damped_conv`."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernel_triton_launch import Call


def damped_conv_fwd_triton(
    u: Tensor, rate: Tensor, coeff: Tensor, D: Tensor | None, initial_state: Tensor | None,
    direction: int, periodic: bool, dim: int, want_state: bool,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(out, final_state); see `function`."""
    out = torch.empty_like(u)
    others = [n for i, n in enumerate(u.shape) if i != dim]
    sweeps, _, modes, _ = coeff.shape
    final = coeff.new_empty(sweeps, *others, modes, 2) if want_state else None
    if u.numel():
        call = Call(u, rate, coeff, D, direction, periodic, dim, [u, out], [initial_state, final])
        call.apply(u, out, initial_state, final, transposed=False)
    return out, coeff.new_empty(0) if final is None else final


def damped_conv_bwd_triton(
    v_out: Tensor, v_final_state: Tensor | None, u: Tensor, rate: Tensor, coeff: Tensor,
    D: Tensor | None, initial_state: Tensor | None, direction: int, periodic: bool, dim: int,
    needs: list[bool],
) -> tuple[Tensor, ...]:  # fmt: skip
    """The five cotangents; see `function`."""
    inputs = (u, rate, coeff, D, initial_state)
    results = [
        torch.empty_like(x) if need and x is not None else None
        for need, x in zip(needs, inputs, strict=True)
    ]
    v_u, v_rate, v_coeff, v_D, v_state = results
    if u.numel() == 0:
        for v in results:
            if v is not None:
                v.zero_()
    elif any(v is not None for v in results):
        states = [initial_state, v_final_state, v_state]
        call = Call(u, rate, coeff, D, direction, periodic, dim, [u, v_out, v_u], states)
        v_enter = call.apply(v_out, v_u, v_final_state, v_state, transposed=True)
        if v_rate is not None or v_coeff is not None or v_D is not None:
            enter = call.apply(u, None, initial_state, None, transposed=False)
            call.differentiate(v_rate, v_coeff, v_D, u, v_out, enter, v_enter)
    return tuple(u.new_empty(0) if v is None else v for v in results)
