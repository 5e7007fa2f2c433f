# SPDX-License-Identifier: MIT
"""Triton backend of `damped_conv`."""

from __future__ import annotations

import torch
from torch import Tensor

from .kernel_triton_launch import Call


def damped_conv_fwd_triton(
    u, rate, coeff, D, initial_state, direction, periodic, dim, want_state
) -> tuple[Tensor, Tensor]:
    """(out, final_state); see `function`."""
    out = torch.empty_like(u)
    others = [n for i, n in enumerate(u.shape) if i != dim]
    sweeps, _, modes, _ = coeff.shape
    final = coeff.new_empty(sweeps, *others, modes, 2) if want_state else None
    if u.numel():
        call = Call(
            u, rate, coeff, D, direction, periodic, dim, [u, out], [initial_state, final]
        )
        call.apply(u, out, initial_state, final, transposed=False)
    return out, coeff.new_empty(0) if final is None else final
