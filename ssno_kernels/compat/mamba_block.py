# SPDX-License-Identifier: MIT
"""mamba_ssm's block `Mamba`, with the same parameters and the same cache for generation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from .causal_conv1d import causal_conv1d_update
from .mamba_inner import inner, mamba_inner_fn
from .not_covered import not_covered
from .state_update import selective_state_update

__all__ = ["InferenceParams", "Mamba"]


@dataclass
class InferenceParams:
    """The cache of a generation: the states of each layer by its index, and where it stands."""

    max_seqlen: int
    max_batch_size: int
    seqlen_offset: int = 0
    batch_size_offset: int = 0
    key_value_memory_dict: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    lengths_per_sample: Tensor | None = None

    def reset(self, max_seqlen: int, max_batch_size: int) -> None:
        self.max_seqlen, self.max_batch_size, self.seqlen_offset = max_seqlen, max_batch_size, 0
        if self.lengths_per_sample is not None:
            self.lengths_per_sample.zero_()


class Mamba(nn.Module):
    """The block of Mamba (arXiv 2312.00752, Figure 3): (B, L, d_model) -> the same.

    x and z are two halves of a linear map to 2 E d_model channels; x passes a causal convolution,
    SiLU and a selective scan whose step size, B and C are linear in x; silu(z) gates the result,
    which is mapped back. E d_model is called D here.

    Parameters, as the original's: in_proj (2 D, d_model), conv1d (D, 1, d_conv), x_proj
    (dt_rank + 2 d_state, D), dt_proj (D, dt_rank) with its bias, A_log (D, d_state) and D (D,) in
    float32, out_proj (d_model, D).

    Args:
        d_model, d_state, d_conv, expand: sizes; N is d_state, E is expand.
        dt_rank: R, "auto" for a sixteenth of d_model, rounded up.
        dt_min, dt_max, dt_init_floor: initial step sizes are log-uniform in [dt_min, dt_max] and
            at least the floor.
        dt_init, dt_scale: dt_proj's weight is uniform ("random") within, or "constant" at,
            dt_scale / sqrt(R).
        conv_bias, bias: of the convolution; of in_proj and out_proj.
        use_fast_path: no effect; there is one path.
        layer_idx: the key of this layer in a cache.
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | str = "auto",
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_init: str = "random",
        dt_scale: float = 1.0,
        dt_init_floor: float = 1e-4,
        conv_bias: bool = True,
        bias: bool = False,
        use_fast_path: bool = True,
        layer_idx: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        self.d_model, self.d_state, self.d_conv, self.expand = d_model, d_state, d_conv, expand
        self.d_inner = int(expand * d_model)
        self.dt_rank = math.ceil(d_model / 16) if dt_rank == "auto" else int(dt_rank)
        self.use_fast_path, self.layer_idx = use_fast_path, layer_idx
        self.activation, self.act = "silu", nn.SiLU()
        made: dict[str, Any] = {"device": device, "dtype": dtype}
        inner_size = self.d_inner
        self.in_proj = nn.Linear(d_model, 2 * inner_size, bias=bias, **made)
        self.conv1d = nn.Conv1d(
            inner_size, inner_size, d_conv, groups=inner_size, padding=d_conv - 1,
            bias=conv_bias, **made,
        )  # fmt: skip
        self.x_proj = nn.Linear(inner_size, self.dt_rank + 2 * d_state, bias=False, **made)
        self.dt_proj = nn.Linear(self.dt_rank, inner_size, bias=True, **made)
        numbers = torch.arange(1, d_state + 1, dtype=torch.float32, device=device)
        self.A_log = nn.Parameter(numbers.log().repeat(inner_size, 1))
        self.D = nn.Parameter(torch.ones(inner_size, device=device))
        self.out_proj = nn.Linear(inner_size, d_model, bias=bias, **made)
        self._init_steps(dt_min, dt_max, dt_init, dt_scale, dt_init_floor)
        self.A_log._no_weight_decay = self.D._no_weight_decay = True  # type: ignore[attr-defined]
        self.dt_proj.bias._no_reinit = True  # type: ignore[attr-defined]

    @torch.no_grad()
    def _init_steps(self, low: float, high: float, init: str, scale: float, floor: float) -> None:
        bound = scale * self.dt_rank**-0.5
        if init not in ("constant", "random"):
            not_covered(f"dt_init={init!r}", "'constant' or 'random'")
        nn.init.uniform_(self.dt_proj.weight, -bound if init == "random" else bound, bound)
        step = torch.rand_like(self.dt_proj.bias) * math.log(high / low) + math.log(low)
        step = step.exp().clamp(min=floor)
        self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))  # softplus gives the step

    def forward(self, hidden_states: Tensor, inference_params: Any = None) -> Tensor:
        """(B, L, d_model) -> the same. With `inference_params`, its cache is filled or used:

        at its seqlen_offset 0 by the whole of a prompt, later by one token at a time.
        """
        if inference_params is not None:
            states = self._get_states_from_cache(inference_params, hidden_states.shape[0])
            if inference_params.seqlen_offset > 0:
                return self.step(hidden_states, *states)[0]
            return self._prefill(hidden_states, *states)
        return mamba_inner_fn(
            self._xz(hidden_states), self.conv1d.weight, self.conv1d.bias, self.x_proj.weight,
            self.dt_proj.weight, self.out_proj.weight, self.out_proj.bias, self._A(),
            D=_wide(self.D), delta_bias=_wide(self.dt_proj.bias),
        )  # fmt: skip

    def step(
        self, hidden_states: Tensor, conv_state: Tensor, ssm_state: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One token (B, 1, d_model): (out, conv_state, ssm_state), the states updated in place."""
        if hidden_states.dim() != 3 or hidden_states.shape[1] != 1:
            raise ValueError(
                f"hidden_states has shape {tuple(hidden_states.shape)}; expected (B, 1, d_model)"
            )
        x, z = self.in_proj(hidden_states[:, 0]).chunk(2, dim=-1)
        x = causal_conv1d_update(
            x, conv_state, self.conv1d.weight[:, 0], self.conv1d.bias, self.activation
        )
        delta, B, C = self.x_proj(x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        delta = linear(delta, self.dt_proj.weight)
        y = selective_state_update(
            ssm_state, x, delta, self._A(), B, C, self.D, z, self.dt_proj.bias, dt_softplus=True
        )
        return self.out_proj(y)[:, None], conv_state, ssm_state

    def allocate_inference_cache(
        self, batch_size: int, max_seqlen: int, dtype: torch.dtype | None = None, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Zero states of the convolution (B, D, d_conv) and of the scan (B, D, d_state)."""
        conv, scan = self.conv1d.weight, self.dt_proj.weight
        return (
            conv.new_zeros(batch_size, self.d_inner, self.d_conv, dtype=dtype or conv.dtype),
            scan.new_zeros(batch_size, self.d_inner, self.d_state, dtype=dtype or scan.dtype),
        )

    def _get_states_from_cache(
        self, inference_params: Any, batch_size: int, initialize_states: bool = False
    ) -> tuple[Tensor, Tensor]:
        if self.layer_idx is None:
            raise ValueError("layer_idx is None; expected a number, the layer's key in the cache")
        cache: dict[int, tuple[Tensor, Tensor]] = inference_params.key_value_memory_dict
        if self.layer_idx not in cache:
            cache[self.layer_idx] = self.allocate_inference_cache(batch_size, 0)
        elif initialize_states:
            for state in cache[self.layer_idx]:
                state.zero_()
        return cache[self.layer_idx]

    def _prefill(self, hidden_states: Tensor, conv_state: Tensor, ssm_state: Tensor) -> Tensor:
        xz = self._xz(hidden_states)
        y, last_state = inner(
            xz, self.conv1d.weight, self.conv1d.bias, self.x_proj.weight, self.dt_proj.weight,
            self._A(), None, None, _wide(self.D), _wide(self.dt_proj.bias),
            return_last_state=True,
        )  # fmt: skip
        assert last_state is not None
        with torch.no_grad():
            x = xz[:, : self.d_inner]
            conv_state.copy_(pad(x, (self.d_conv - x.shape[-1], 0)))  # cuts where x is longer
            ssm_state.copy_(last_state)
        out: Tensor = self.out_proj(y.transpose(1, 2))
        return out

    def _xz(self, hidden_states: Tensor) -> Tensor:
        xz: Tensor = self.in_proj(hidden_states)
        return xz.transpose(1, 2)

    def _A(self) -> Tensor:
        return -torch.exp(_wide(self.A_log))


def _wide(parameter: Tensor) -> Tensor:
    return parameter.to(torch.promote_types(parameter.dtype, torch.float32))
