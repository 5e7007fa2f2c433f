# SPDX-License-Identifier: MIT
"""The Mamba layers of the package `transformers` on our kernels, where it would take its slow path.

Off a CUDA device `transformers` runs a loop over time, whatever is installed. Its other path, which
calls the functions of mamba_ssm and causal_conv1d, needs nothing but these functions.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn.functional import linear

from .causal_conv1d import causal_conv1d_fn, causal_conv1d_update
from .mamba_inner import inner
from .mamba_ssm import mamba_inner_fn, selective_scan_fn, selective_state_update
from .not_covered import not_covered

_LAYERS = {
    "transformers.models.mamba.modeling_mamba": "MambaMixer",
    "transformers.models.jamba.modeling_jamba": "JambaMambaMixer",
    "transformers.models.falcon_mamba.modeling_falcon_mamba": "FalconMambaMixer",
}
_FUNCTIONS: dict[str, Any] = {
    "selective_scan_fn": selective_scan_fn,
    "selective_state_update": selective_state_update,
    "mamba_inner_fn": mamba_inner_fn,
    "causal_conv1d_fn": causal_conv1d_fn,
    "causal_conv1d_update": causal_conv1d_update,
    "_causal_conv1d_cache": (causal_conv1d_update, causal_conv1d_fn),
}


def _falcon_inner_fn(
    xz: Tensor, conv1d_weight: Tensor, conv1d_bias: Tensor | None, x_proj_weight: Tensor,
    delta_proj_weight: Tensor, out_proj_weight: Tensor, out_proj_bias: Tensor | None, A: Tensor,
    B: None, C: None, D: Tensor, *, delta_bias: Tensor, delta_softplus: bool,
    b_rms_weight: Tensor, c_rms_weight: Tensor, dt_rms_weight: Tensor, b_c_dt_rms_eps: float,
) -> Tensor:  # fmt: skip
    """`mamba_inner_fn` with delta's norm before its projection, as FalconMamba's slow path has it.

    That is how the released models generate; dt_rms_weight, which is 1, is of the norm after it.
    """
    y, _ = inner(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias,
        delta_softplus=delta_softplus, rms=(b_rms_weight, c_rms_weight, None, b_c_dt_rms_eps),
        dt_factor_rms=True,
    )  # fmt: skip
    bias = out_proj_bias if out_proj_bias is None else out_proj_bias.to(out_proj_weight.dtype)
    return linear(y.transpose(1, 2), out_proj_weight, bias)


_OF_A_LAYER: dict[str, dict[str, Any]] = {"FalconMambaMixer": {"mamba_inner_fn": _falcon_inner_fn}}


def accelerate_transformers() -> None:
    """Run Mamba, Jamba and FalconMamba layers on our kernels, on every device, in this process.

    It gives them our functions where `transformers` found none, and sends their slow path the way
    of the fast one. The slow path remains for what the fast one of `transformers` leaves out: a
    mask of padding in training. Written for `transformers` 4.57.
    """
    for module_name, class_name in _LAYERS.items():
        module = importlib.import_module(module_name)
        layer: Any = getattr(module, class_name, None)
        if not all(hasattr(layer, name) for name in ("slow_forward", "cuda_kernels_forward")):
            not_covered(f"{class_name} of this version of transformers", "transformers 4.57")
        for name, function in (_FUNCTIONS | _OF_A_LAYER.get(class_name, {})).items():
            if getattr(module, name, function) in (None, (None, None)):
                setattr(module, name, function)
        if not hasattr(layer.slow_forward, "__wrapped__"):
            layer.slow_forward = _fast_where_it_can(layer.slow_forward)


def _fast_where_it_can(slow_forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    @functools.wraps(slow_forward)
    def forward(self: Any, hidden_states: Tensor, *arguments: Any, **named: Any) -> Tensor:
        mask = named.get("attention_mask", arguments[-1] if arguments else None)
        if self.training and mask is not None and not mask.all():
            return slow_forward(self, hidden_states, *arguments, **named)
        out: Tensor = self.cuda_kernels_forward(hidden_states, *arguments, **named)
        return out

    return forward
