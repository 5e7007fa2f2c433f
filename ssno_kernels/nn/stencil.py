# SPDX-License-Identifier: MIT
"""Convolutions of 3 points an axis that reach as far on a finer grid as on that of training."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import conv1d, conv2d, conv3d

_CONVOLVE = (conv1d, conv2d, conv3d)


def stencil(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, scale: float) -> Tensor:
    """`layer`, of 3 points an axis and padding 1, with its points a training step apart.

    Its weights so stand at fixed places, as those of a convolutional neural operator do (arXiv
    2302.01178), and it maps functions, not arrays. `scale` is the step of x's grid over that of
    the training grid.
    """
    apart = round(1 / scale) if scale > 0 else 0
    if apart < 1 or abs(apart * scale - 1) > 1e-6:
        raise ValueError(
            f"scale is {scale}; expected 1 / n with a whole n: a grid n times as fine as that of "
            "training. Resample fields of another grid to that of training, and the result back"
        )
    if apart == 1:
        out: Tensor = layer(x)
        return out
    convolve = _CONVOLVE[layer.weight.dim() - 3]
    return convolve(x, layer.weight, layer.bias, padding=apart, dilation=apart, groups=layer.groups)
