# SPDX-License-Identifier: MIT
"""Operators under torch.autocast: activations in its dtype, states and sums in float32."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Operator = TypeVar("Operator", bound=Callable[..., Any])

# Devices that have autocast; asked for once, since PyTorch 2.11 does not trace the question.
KINDS = frozenset(
    kind
    for kind in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia", "xla")
    if torch.amp.is_autocast_available(kind)
)
_CASTABLE = (torch.float32, torch.bfloat16, torch.float16)  # autocast leaves float64 alone


def autocasts(*activations: str) -> Callable[[Operator], Operator]:
    """An operator whose named arguments autocast may cast, the first of which gives the device.

    Parameters keep their dtype. Inside, autocast is off: no product of the composite is cast.
    """

    def decorate(operator: Operator) -> Operator:
        places = [list(inspect.signature(operator).parameters).index(name) for name in activations]

        @wraps(operator)
        def called(*args: Any, **keywords: Any) -> Any:
            first = args[0] if args else keywords.get(activations[0])
            kind = first.device.type if isinstance(first, Tensor) else "meta"
            if kind not in KINDS or not torch.is_autocast_enabled(kind):
                return operator(*args, **keywords)
            dtype = torch.get_autocast_dtype(kind)
            args = tuple(_cast(x, dtype) if i in places else x for i, x in enumerate(args))
            keywords = {k: _cast(x, dtype) if k in activations else x for k, x in keywords.items()}
            with torch.autocast(kind, enabled=False):
                return operator(*args, **keywords)

        return cast(Operator, called)

    return decorate


def _cast(x: object, dtype: torch.dtype) -> object:
    """An activation has three axes at least; a B or C that is constant in time has two."""
    if isinstance(x, Tensor) and x.dtype in _CASTABLE and x.dim() >= 3:
        return x.to(dtype)
    return x
