# SPDX-License-Identifier: MIT
"""What the autograd Functions of all operators share.

Kernels are operators of PyTorch, `ssno_kernels::<operator>_<fwd or bwd>_<backend>`. The backward is
a Function of its own, whose derivatives go through the composite.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..registry import OPERATORS

_library = torch.library.Library("ssno_kernels", "FRAGMENT")


def define(
    operator: str, package: str, schemas: dict[str, str], fakes: dict[str, Callable]
) -> None:
    """Define an operator's kernels, by "fwd" and "bwd", for each of its kernel backends.

    Those of `cpu` and `cuda` are implemented in csrc, those of `triton` in `kernel_triton` of the
    package, which is imported when one is called.
    """
    for direction, schema in schemas.items():
        for backend in (b for b in OPERATORS[operator] if b in ("cuda", "triton", "cpu")):
            name = f"{operator}_{direction}_{backend}"
            _library.define(name + schema)
            torch.library.register_fake(f"ssno_kernels::{name}", fakes[direction], lib=_library)
            if backend == "triton":
                _library.impl(name, _triton(name, package), "CompositeExplicitAutograd")


def _triton(name: str, package: str) -> Callable:
    def kernel(*arguments):
        return getattr(importlib.import_module(".kernel_triton", package), name)(*arguments)

    return kernel


def kernel(operator: str, direction: str, backend: str) -> Callable:
    return getattr(torch.ops.ssno_kernels, f"{operator}_{direction}_{backend}").default


def like_or_empty(tensors: Sequence[Tensor | None], needs: Sequence[bool]) -> tuple[Tensor, ...]:
    """Fake cotangents of a backward kernel: empty tensors where not needed. The first is given."""
    return tuple(
        torch.empty_like(t) if need and t is not None else tensors[0].new_empty(0)
        for t, need in zip(tensors, needs, strict=True)
    )


def through_composite(
    run: Callable,
    v: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    needs: Sequence[bool],
    w: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """The derivative of a backward: its vector-Jacobian product in the directions w.

    The backward takes the cotangents v of the outputs, and the tensors, to a cotangent of each
    tensor that is needed; `run` gives the outputs from the tensors by the composite.
    """
    given = [*v, *tensors]
    present = [i for i, t in enumerate(given) if t is not None]

    def backward(*values):
        full: list[Tensor | None] = [None] * len(given)
        for i, value in zip(present, values, strict=True):
            full[i] = value
        v_full, full = full[: len(v)], full[len(v) :]

        def primal(*wanted):
            chosen = iter(wanted)
            inputs = (next(chosen) if need else t for t, need in zip(full, needs, strict=True))
            outputs = run(*inputs)
            return outputs if isinstance(outputs, tuple) else (outputs,)

        wanted = [t for t, need in zip(full, needs, strict=True) if need]
        outputs, pull = torch.func.vjp(primal, *wanted)
        pairs = zip(v_full, outputs, strict=True)
        return pull(tuple(torch.zeros_like(o) if x is None else x for x, o in pairs))

    cotangents, pull = torch.func.vjp(backward, *(given[i] for i in present))
    w = [x for x, need in zip(w, needs, strict=True) if need]
    w = tuple(torch.zeros_like(c) if x is None else x for c, x in zip(cotangents, w, strict=True))
    second: list[Tensor | None] = [None] * len(given)
    for i, value in zip(present, pull(w), strict=True):
        second[i] = value
    return second
