# SPDX-License-Identifier: MIT
"""What the autograd Functions of all operators share.

Kernels are operators of PyTorch, `ssno_kernels::<operator>_<fwd or bwd>_<backend>`. The backward is
a Function of its own; what both have in common is in `transforms`.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ..registry import OPERATORS

Kernel = Callable[..., Any]

_library = torch.library.Library("ssno_kernels", "FRAGMENT")


def define(
    operator: str,
    package: str,
    schemas: dict[str, str],
    fakes: dict[str, Kernel],
    more: dict[str, str] | None = None,
) -> None:
    """Define an operator's kernels, by "fwd" and "bwd", for each of its kernel backends.

    Those of `cpu` and `cuda` are implemented in csrc, those of `triton` in `kernel_triton` of the
    package, which is imported when one is called. `more` has the arguments that one backend's
    kernels take after those of the schema.
    """
    for direction, schema in schemas.items():
        for backend in (b for b in OPERATORS[operator] if b in ("cuda", "triton", "cpu")):
            name = f"{operator}_{direction}_{backend}"
            last = (more or {}).get(backend)
            _library.define(name + (schema.replace(") ->", f", {last}) ->") if last else schema))
            torch.library.register_fake(f"ssno_kernels::{name}", fakes[direction], lib=_library)
            if backend == "triton":
                _library.impl(name, _triton(name, package), "CompositeExplicitAutograd")


def define_in_python(
    name: str, schema: str, implementation: Kernel, fake: Kernel, tags: Sequence[torch.Tag] = ()
) -> None:
    """Define an operator that calls others, which no tracer is to look into."""
    _library.define(name + schema, tags=tuple(tags))
    torch.library.register_fake(f"ssno_kernels::{name}", fake, lib=_library)
    _library.impl(name, implementation, "CompositeExplicitAutograd")


def _triton(name: str, package: str) -> Kernel:
    def kernel(*arguments: object) -> Any:
        return getattr(importlib.import_module(".kernel_triton", package), name)(*arguments)

    return kernel


def kernel(operator: str, direction: str, backend: str) -> Kernel:
    found: Kernel = getattr(torch.ops.ssno_kernels, f"{operator}_{direction}_{backend}").default
    return found


def like_or_empty(
    first: Tensor, *others: Tensor | None, needs: Sequence[bool]
) -> tuple[Tensor, ...]:
    """Fake cotangents of a backward kernel: empty tensors where not needed."""
    return tuple(
        torch.empty_like(t) if need and t is not None else first.new_empty(0)
        for t, need in zip((first, *others), needs, strict=True)
    )
