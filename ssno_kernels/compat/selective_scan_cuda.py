# SPDX-License-Identifier: MIT
"""The compiled extension `selective_scan_cuda` of mamba_ssm: its fwd and bwd, on any device."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

from . import raw

__all__ = ["bwd", "fwd"]


def fwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    delta_softplus: bool,
) -> list[Tensor]:
    """[out, x], or with z [out, x, out silu(z)]; x[:, :, -1, 1::2] is the last state.

    x (B, D, ceil(L / 2048), 2 N) is in the state's dtype; see `raw.forward`.
    """
    out, x = raw.forward(u, delta, A, B, C, D, delta_bias, delta_softplus)
    if z is None:
        return [out, x]
    wide = torch.promote_types(out.dtype, torch.float32)
    return [out, x, (out.to(wide) * silu(z.to(wide))).to(out.dtype)]


def bwd(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
    dout: Tensor,
    x: Tensor | None,
    out: Tensor | None,
    dz: Tensor | None,
    delta_softplus: bool,
    recompute_out_z: bool,
) -> list[Tensor | None]:
    """[du, ddelta, dA, dB, dC, dD, ddelta_bias], with z also dz, then out_z if asked for.

    dD and ddelta_bias are None where D and delta_bias are. A dz that is given is written to and
    returned. x and out are not read: the forward runs once more.
    """
    inputs = (u, delta, A, B, C, D, z, delta_bias)
    out_z, (*first, v_z, v_bias) = raw.backward(inputs, dout, delta_softplus)
    result = [*first, v_bias]
    if z is not None:
        result.append(v_z if dz is None or v_z is None else dz.copy_(v_z))
        if recompute_out_z:
            result.append(out_z)
    return result
