# SPDX-License-Identifier: MIT
"""The alias-free activation as a layer that designs its own filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..filters import alias_free_resampling
from ..ops.alias_free_activation import alias_free_activation
from ..ops.alias_free_activation.arguments import sum_dtype


class AliasFreeActivation(nn.Module):
    """A nonlinearity that adds no frequency above what the grid holds, with a change of rate.

    (B, C, *grid) -> (B, C, *grid size_out / size_in). The sizes stand for sampling rates: only
    their ratio matters, and a layer serves every grid that it divides, of 1 to 3 axes.

    Args:
        size_in: samples along an axis of the input, or its sampling rate.
        size_out: the same of the output; as the input if not given.
        channels: with it, a learned bias of this many channels, initially 0, is added first.
        activation, negative_slope, gain: see :func:`ssno_kernels.alias_free_activation`.
        taps, cutoff, stopband: of the filters, see :func:`ssno_kernels.alias_free_resampling`.
    """

    up_filter: Tensor
    down_filter: Tensor

    def __init__(
        self,
        size_in: int,
        size_out: int | None = None,
        channels: int | None = None,
        *,
        activation: str = "leaky_relu",
        negative_slope: float = 0.2,
        gain: float = 2**0.5,
        taps: int = 6,
        cutoff: float = 1 / 2.0001,
        stopband: float = 0.8,
    ):
        super().__init__()
        self.size_in, self.size_out = size_in, size_in if size_out is None else size_out
        self.activation, self.negative_slope, self.gain = activation, negative_slope, gain
        with torch.device("cpu"):  # the meta device would not hold the values
            self.resampling = alias_free_resampling(
                size_in, size_out, taps=taps, cutoff=cutoff, stopband=stopband
            )
        self.bias = None if channels is None else nn.Parameter(torch.zeros(channels))
        self.register_buffer("up_filter", None, persistent=False)
        self.register_buffer("down_filter", None, persistent=False)
        self._take_filters(torch.get_default_dtype(), torch.get_default_device())

    def _take_filters(self, dtype: torch.dtype, device: torch.device) -> None:
        """From the design in float64, which a cast of the layer to any dtype leaves alone."""
        self.up_filter = self.resampling.up_filter.to(device, sum_dtype(dtype))
        self.down_filter = self.resampling.down_filter.to(device, sum_dtype(dtype))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        apply: Callable[..., nn.Module] = super()._apply  # not annotated
        apply(fn, recurse)
        self._take_filters(self.up_filter.dtype, self.up_filter.device)
        return self

    def forward(self, x: Tensor) -> Tensor:
        up, down, padding = self.resampling[2:]
        for n in x.shape[2:]:
            if n * up % down:
                raise ValueError(
                    f"x has shape {tuple(x.shape)}; expected axes of the grid that are multiples "
                    f"of {down // up}, to go from {self.size_in} to {self.size_out}"
                )
        return alias_free_activation(
            x,
            self.up_filter,
            self.down_filter,
            up,
            down,
            padding,
            self.bias,
            self.activation,
            self.negative_slope,
            self.gain,
        )

    def extra_repr(self) -> str:
        channels = None if self.bias is None else len(self.bias)
        return f"{self.size_in}, {self.size_out}, {channels}, activation={self.activation!r}"
