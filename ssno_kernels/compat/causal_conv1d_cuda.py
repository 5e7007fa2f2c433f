# SPDX-License-Identifier: MIT
"""The compiled extension `causal_conv1d_cuda`, as of version 1.4, on any device.

The same functions are those of `causal_conv1d.cpp_functions` of later versions, whose extension
itself writes to tensors that it is given.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .causal_conv1d import causal_conv1d_fn
from .causal_conv1d import causal_conv1d_update as update
from .not_covered import not_covered

_INSTEAD = "the convention of 1.4: the result is returned, not written to an argument"


def causal_conv1d_fwd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    final_states_out: Tensor | None,
    silu_activation: bool,
    *later: object,
) -> Tensor:
    """out; the last samples are written to `final_states_out` where it is given."""
    _check(silu_activation, later)
    with torch.no_grad():
        result = causal_conv1d_fn(
            x, weight, bias, seq_idx, initial_states, final_states_out is not None,
            final_states_out, "silu" if silu_activation else None,
        )  # fmt: skip
    return result if isinstance(result, Tensor) else result[0]


def causal_conv1d_bwd(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    dout: Tensor,
    seq_idx: Tensor | None,
    initial_states: Tensor | None,
    dfinal_states: Tensor | None,
    dx: Tensor | None,
    return_dinitial_states: bool,
    silu_activation: bool,
    *later: object,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """(dx, dweight, dbias, dinitial_states); a dx that is given is written to and returned."""
    _check(silu_activation, later)
    x, weight = (t.detach().requires_grad_() for t in (x, weight))
    bias, states = (
        t if t is None else t.detach().requires_grad_(needed)
        for t, needed in ((bias, True), (initial_states, return_dinitial_states))
    )
    with torch.enable_grad():
        outputs = causal_conv1d_fn(
            x, weight, bias, seq_idx, states, dfinal_states is not None, None,
            "silu" if silu_activation else None,
        )  # fmt: skip
    given = [t for t in (x, weight, bias, states) if t is not None and t.requires_grad]
    v_outputs = dout if dfinal_states is None else (dout, dfinal_states)
    v_x, v_weight, *others = torch.autograd.grad(outputs, given, v_outputs)
    v_states = others.pop() if return_dinitial_states and states is not None else None
    v_bias = None if bias is None else others.pop()
    return v_x if dx is None else dx.copy_(v_x), v_weight, v_bias, v_states


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    silu_activation: bool,
    cache_seqlens: Tensor | None,
    conv_state_indices: Tensor | None,
    *later: object,
) -> Tensor:
    """out; conv_state is updated in place."""
    _check(silu_activation, later)
    activation = "silu" if silu_activation else None
    with torch.no_grad():
        return update(x, conv_state, weight, bias, activation, cache_seqlens, conv_state_indices)


def _check(silu_activation: object, later: tuple[object, ...]) -> None:
    if later or not isinstance(silu_activation, bool):
        not_covered("causal_conv1d_cuda as of version 1.5 and later", _INSTEAD)


causal_conv1d_fwd_function = causal_conv1d_fwd
causal_conv1d_bwd_function = causal_conv1d_bwd
causal_conv1d_update_function = causal_conv1d_update
