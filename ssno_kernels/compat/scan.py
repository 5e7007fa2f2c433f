# SPDX-License-Identifier: MIT
"""`selective_scan` with the freedom in dtypes that the stand-ins need."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import torch
from torch import Tensor

from ..ops.autocast import KINDS
from ..ops.selective_scan import selective_scan
from ..ops.selective_scan.arguments import COMPLEX, state_dtype


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    *,
    delta_weight: Tensor | None = None,
    initial_state: Tensor | None = None,
    return_last_state: bool = False,
    out_dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor | None]:
    """(out, last state or None) of inputs of any floating dtypes, computed in the widest.

    Parameters are brought to the state's dtype; out is in `out_dtype`, else in u's. Where out is
    asked for in a wider dtype than the activations have, these are widened, so that it is not
    rounded. Autocast changes none of it, as it does not with the compiled originals.
    """
    activations = [u, delta, *(M for M in (B, C) if M.dim() > 2), *([] if z is None else [z])]
    dtype = reduce(torch.promote_types, (t.dtype for t in activations), out_dtype or u.dtype)
    real = state_dtype(dtype)

    def parameter(x: Tensor) -> Tensor:
        return x.to(COMPLEX[real] if x.is_complex() else real)

    def optional(x: Tensor | None) -> Tensor | None:
        return None if x is None else parameter(x)

    def projection(M: Tensor) -> Tensor:
        return M.to(dtype) if M.dim() > 2 else parameter(M)

    with _without_autocast(u.device.type):
        result = selective_scan(
            u.to(dtype),
            delta.to(dtype),
            parameter(A),
            projection(B),
            projection(C),
            optional(D),
            z if z is None else z.to(dtype),
            optional(delta_bias),
            bool(delta_softplus),
            delta_weight=optional(delta_weight),
            initial_state=initial_state,
            return_final_state=return_last_state,
            backend=backend,
        )
    out, last_state = (result, None) if isinstance(result, Tensor) else result
    return out.to(out_dtype or u.dtype), last_state


def _without_autocast(device: str) -> AbstractContextManager[object]:
    if device in KINDS:
        return torch.autocast(device, enabled=False)
    return nullcontext()
