# SPDX-License-Identifier: MIT
"""The low-pass filters of the alias-free activation, and how they are aligned with the grid."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Resampling", "alias_free_padding", "alias_free_resampling", "kaiser_lowpass"]


class Resampling(NamedTuple):
    """The filters of one alias-free activation, in the order in which the operator takes them."""

    up_filter: Tensor
    down_filter: Tensor
    up: int
    down: int
    padding: tuple[int, int]


def kaiser_lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """The low-pass filter that a Kaiser window of `taps` samples gives, (taps,) in float64.

    cutoff, half_width and rate share one unit, that of a frequency:

        h[k] ~ kaiser_beta[k] sinc(2 cutoff (k - (taps - 1) / 2) / rate),    sum_k h[k] = 1

    half_width is half of the transition band, which is centred on the cut-off. It sets the window's
    attenuation a = 2.285 (taps - 1) pi (2 half_width) / (rate / 2) + 7.95 dB, and that beta (Kaiser
    1974): 0.1102 (a - 8.7) above 50 dB, 0.5842 (a - 21)^0.4 + 0.07886 (a - 21) above 21 dB, else 0.
    The same as scipy.signal.firwin(taps, cutoff, width=2 * half_width, fs=rate).
    """
    if not isinstance(taps, int) or isinstance(taps, bool):
        raise TypeError(f"taps is {taps!r}; expected an integer")
    if taps < 1:
        raise ValueError(f"taps is {taps}; expected at least 1")
    if not rate > 0:
        raise ValueError(f"rate is {rate}; expected a positive number")
    if not 0 < cutoff < rate / 2:
        raise ValueError(f"cutoff is {cutoff}; expected one between 0 and rate / 2 = {rate / 2}")
    if not half_width >= 0:
        raise ValueError(f"half_width is {half_width}; expected a number of at least 0")
    attenuation = 2.285 * (taps - 1) * math.pi * (2 * half_width) / (rate / 2) + 7.95
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    centre = (taps - 1) / 2
    k = torch.arange(taps, dtype=torch.float64) - centre
    inside = 1 - (k / max(centre, 0.5)) ** 2
    window = torch.special.i0(beta * inside.clamp(min=0).sqrt())
    h: Tensor = window * torch.sinc(2 * cutoff / rate * k)
    return h / h.sum()


def alias_free_padding(
    size_in: int, size_out: int, up: int, down: int, up_taps: int, down_taps: int
) -> tuple[int, int]:
    """The (low, high) padding with which `size_in` samples become `size_out`, centres kept.

    A sample stands for the cell around it: sample i of n lies at (i + 1/2) / n. The output is not
    displaced if the taps of both filters, up and down add up to an even number.
    """
    for name, value in (("size_in", size_in), ("size_out", size_out), ("up", up), ("down", down)):
        _at_least_one(name, value)
    if size_in * up != size_out * down:
        raise ValueError(
            f"size_out is {size_out}; expected {size_in} * {up} / {down} = "
            f"{size_in * up / down:g}, which size_in, up and down give"
        )
    if (up_taps + down_taps + up + down) % 2:
        kind = "odd" if (up_taps + up + down) % 2 else "even"
        raise ValueError(
            f"down_filter has {down_taps} taps; expected an {kind} number with {up_taps} taps of "
            f"up_filter, up = {up} and down = {down}, or the output lies half a sample beside"
        )
    total = (size_out - 1) * down + 1 - size_in * up + up_taps + down_taps - 2
    low = (total + up) // 2
    return low, total - low


def alias_free_resampling(
    size_in: int,
    size_out: int | None = None,
    *,
    taps: int = 6,
    cutoff: float = 1 / 2.0001,
    stopband: float = 0.8,
) -> Resampling:
    """Filters, factors and padding of an activation from `size_in` to `size_out` samples an axis.

    The nonlinearity runs at the rate F = 2 max(size_in, size_out), so up = F / size_in and
    down = F / size_out. The up filter has taps * up taps and cuts off at cutoff * size_in, the
    down filter taps * down and cutoff * size_out; each one's half width is stopband * size less its
    cut-off. The defaults are those of MambaNO. Only the ratio of the sizes matters:
    the result serves every grid on which they have this ratio.
    """
    size_out = size_in if size_out is None else size_out
    _at_least_one("size_in", size_in)
    _at_least_one("size_out", size_out)
    _at_least_one("taps", taps)
    rate = 2 * max(size_in, size_out)
    for name, size in (("size_in", size_in), ("size_out", size_out)):
        if rate % size:
            raise ValueError(f"{name} is {size}; expected a divisor of 2 max(sizes) = {rate}")
    up, down = rate // size_in, rate // size_out
    width = stopband - cutoff
    up_filter = kaiser_lowpass(taps * up, cutoff * size_in, width * size_in, rate)
    down_filter = kaiser_lowpass(taps * down, cutoff * size_out, width * size_out, rate)
    padding = alias_free_padding(size_in, size_out, up, down, taps * up, taps * down)
    return Resampling(up_filter, down_filter, up, down, padding)


def _at_least_one(name: str, value: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    if value < 1:
        raise ValueError(f"{name} is {value}; expected at least 1")
