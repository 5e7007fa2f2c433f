# SPDX-License-Identifier: MIT
"""The functions of the package `causal_conv1d` 1.6, on any device, layout and floating dtype.

Beyond them: every layout serves every argument, and derivatives of any order. They compute in the
wider of the dtypes of x and weight, and return x's dtype.
"""

from __future__ import annotations

from typing import Literal, overload

import torch
from torch import Tensor
from torch.nn.functional import pad, silu

from .not_covered import not_covered
from .taps import convolve

__version__ = "1.6.1+ssno"
__all__ = [
    "causal_conv1d_fn",
    "causal_conv1d_ref",
    "causal_conv1d_update",
    "causal_conv1d_update_ref",
    "causal_conv1d_varlen_states",
]


@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., seq_idx: Tensor | None = ...,
    initial_states: Tensor | None = ...,
    return_final_states: Literal[False] = ...,
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., seq_idx: Tensor | None = ...,
    initial_states: Tensor | None = ...,
    *, return_final_states: Literal[True],
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def causal_conv1d_fn(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., seq_idx: Tensor | None = ...,
    initial_states: Tensor | None = ...,
    return_final_states: bool = ...,
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def causal_conv1d_fn(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    seq_idx: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Depthwise causal convolution: out_t = act(bias + sum_s weight[:, W-1-s] x_{t-s}).

    Args:
        x: (B, D, L).
        weight: (D, W).
        bias: (D,).
        seq_idx: (B, L) integers: samples of another number are not seen; a negative one is padding,
            where out is 0. Not together with states.
        initial_states: (B, D, W - 1) the samples before x; else zeros.
        return_final_states: return (out, the last W - 1 samples).
        final_states_out: where to write these; its gradient is then not followed.
        activation: None, "silu" or "swish".
    """
    _check(x, weight, bias, activation)
    if seq_idx is not None and (initial_states is not None or return_final_states):
        not_covered(
            "causal_conv1d_fn with seq_idx and states",
            "one call for each sequence, with initial_states and return_final_states",
        )
    batch, dim, length = x.shape
    width = weight.shape[1]
    dtype = torch.promote_types(x.dtype, weight.dtype)
    seen = x
    if initial_states is not None:
        _expect("initial_states", initial_states, (batch, dim, width - 1))
        seen = torch.cat([initial_states.to(x.dtype), x], dim=-1)
    bias = bias if bias is None else bias.to(dtype)
    out = convolve(seen.to(dtype), weight.to(dtype), bias, seq_idx)
    if seen is not x:
        out = out[..., seen.shape[-1] - length :].clone()  # not a view, which a user may write to
    out = silu(out) if activation else out
    if seq_idx is not None:
        out = torch.where((seq_idx >= 0)[:, None], out, 0)
    out = out.to(x.dtype)
    if not return_final_states:
        return out
    final_states = pad(seen, (max(0, width - 1 - seen.shape[-1]), 0))
    final_states = final_states[..., final_states.shape[-1] - (width - 1) :]
    if final_states_out is None:
        return out, final_states.clone()
    final_states_out.copy_(final_states.detach())
    return out, final_states_out


def causal_conv1d_update(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
    conv_state_indices: Tensor | None = None,
) -> Tensor:
    """The next samples of the convolution; `conv_state` is updated in place.

    Args:
        x: (B, D), or (B, D, L).
        conv_state: (B, D, S) the samples seen last, S >= W - 1.
        weight, bias, activation: as in `causal_conv1d_fn`.
        cache_seqlens: (B,) integers: the state is a ring, into which x is written from the index
            ``cache_seqlens % S`` on.
        conv_state_indices: (B,) integers: the row of `conv_state` that is each sample's; where
            negative, out is 0 and no state is touched.

    Returns:
        out, as x.
    """
    samples = x[..., None] if x.dim() == 2 else x
    _check(samples, weight, bias, activation)
    batch, dim, length = samples.shape
    width, size = weight.shape[1], conv_state.shape[-1]
    if conv_state_indices is not None:
        kept = conv_state_indices >= 0
        rows = conv_state_indices[kept].long()
        part = conv_state[rows]
        lengths = None if cache_seqlens is None else cache_seqlens[kept]
        out = torch.zeros_like(samples)
        out[kept] = causal_conv1d_update(samples[kept], part, weight, bias, activation, lengths)
        with torch.no_grad():
            conv_state[rows] = part
        return out[..., 0] if x.dim() == 2 else out
    _expect("conv_state", conv_state, (batch, dim, size))
    if size < width - 1:
        raise ValueError(f"conv_state holds {size} samples; expected W - 1 = {width - 1} or more")
    if cache_seqlens is None:
        before = conv_state[..., size - (width - 1) :]
        new_state = torch.cat([conv_state, samples.to(conv_state.dtype)], dim=-1)[..., length:]
    else:
        start = cache_seqlens.long()[:, None]
        before = _ring(conv_state, start + torch.arange(1 - width, 0, device=x.device))
        last = min(length, size)
        written = (start + torch.arange(length - last, length, device=x.device)) % size
        written = written[:, None].expand(-1, dim, -1)
        new_state = conv_state.scatter(2, written, samples[..., length - last :].to(conv_state))
    out = causal_conv1d_fn(
        samples, weight, bias, initial_states=before.clone(), activation=activation
    )
    with torch.no_grad():
        conv_state.copy_(new_state)
    return out[..., 0] if x.dim() == 2 else out


def causal_conv1d_varlen_states(x: Tensor, cu_seqlens: Tensor, state_len: int) -> Tensor:
    """(sequences, D, state_len): the last samples of each of the packed sequences of x (total, D).

    Sequence i is x[cu_seqlens[i] : cu_seqlens[i + 1]]; a shorter one has zeros before it.
    """
    at = cu_seqlens[1:, None].long() + torch.arange(-state_len, 0, device=x.device)
    inside = at >= cu_seqlens[:-1, None]
    return torch.where(inside[..., None], x[at.clamp(min=0)], 0).transpose(1, 2)


def _ring(state: Tensor, at: Tensor) -> Tensor:
    at = (at % state.shape[-1])[:, None].expand(-1, state.shape[1], -1)
    return state.gather(2, at)


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str | None) -> None:
    if activation not in (None, "silu", "swish"):
        not_covered(f"activation={activation!r}", "None, 'silu' or 'swish'")
    if x.dim() != 3:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (B, D, L)")
    if weight.dim() != 2 or weight.shape[0] != x.shape[1]:
        raise ValueError(
            f"weight has shape {tuple(weight.shape)}; expected (D, W) = ({x.shape[1]}, W)"
        )
    if bias is not None:
        _expect("bias", bias, (x.shape[1],))


def _expect(name: str, value: Tensor, shape: tuple[int, ...]) -> None:
    if tuple(value.shape) != shape:
        raise ValueError(f"{name} has shape {tuple(value.shape)}; expected {shape}")


@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., initial_states: Tensor | None = ...,
    return_final_states: Literal[False] = ...,
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> Tensor: ...  # fmt: skip
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., initial_states: Tensor | None = ...,
    *, return_final_states: Literal[True],
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip
@overload
def causal_conv1d_ref(
    x: Tensor, weight: Tensor, bias: Tensor | None = ..., initial_states: Tensor | None = ...,
    return_final_states: bool = ...,
    final_states_out: Tensor | None = ..., activation: str | None = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip
def causal_conv1d_ref(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    return_final_states: bool = False,
    final_states_out: Tensor | None = None,
    activation: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """`causal_conv1d_fn` without seq_idx, in the order in which the package's reference has it."""
    return causal_conv1d_fn(
        x, weight, bias, None, initial_states, return_final_states, final_states_out, activation
    )


def causal_conv1d_update_ref(
    x: Tensor,
    conv_state: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: str | None = None,
    cache_seqlens: Tensor | None = None,
) -> Tensor:
    """`causal_conv1d_update` without conv_state_indices."""
    return causal_conv1d_update(x, conv_state, weight, bias, activation, cache_seqlens)
