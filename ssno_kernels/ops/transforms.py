# SPDX-License-Identifier: MIT
"""What the autograd Functions of all operators share: vmap, forward mode, second derivatives.

A Function has a first argument of options and then tensors, or None. Beside `forward`, which calls
a kernel, it says

    composite(options, *tensors)        its outputs in PyTorch operations; None for an output that
                                        is not differentiable or was not asked for
    batch_axes(options, ranks)          the axis of each tensor that counts the batch, None for a
                                        parameter, and the same of the outputs, or None for all of
                                        them if one sums over the batch; `ranks` are those of the
                                        tensors, 0 for None

and every derivative that no kernel computes goes through `composite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd import Function

Axes = Sequence[int | None]
Options = tuple[Any, ...]
"""Those of any operator; its own module says which they are."""
Run = Callable[..., "Tensor | Sequence[Tensor | None]"]


class Operation(Function):
    """A Function that says the two things beside `forward`."""

    @staticmethod
    def composite(*arguments: Any, **_: Any) -> Tensor | Sequence[Tensor | None]:
        raise NotImplementedError

    @staticmethod
    def batch_axes(options: Any, ranks: Sequence[int]) -> tuple[Axes, Axes | None]:
        raise NotImplementedError


class Context(Protocol):
    """What PyTorch gives to `setup_context` and `backward`, but for what is kept there."""

    needs_input_grad: tuple[bool, ...]

    def save_for_backward(self, *tensors: Tensor | None) -> None: ...
    def save_for_forward(self, *tensors: Tensor | None) -> None: ...
    def mark_non_differentiable(self, *outputs: Tensor) -> None: ...
    def set_materialize_grads(self, value: bool) -> None: ...


class _ForwardContext(Context, Protocol):
    saved_tensors: tuple[Tensor | None, ...]
    all_options: Options
    single: bool
    strides: list[tuple[int, ...]]


def call(function: type[Operation], options: Options, *tensors: Tensor | None) -> Any:
    """Apply a Function, with the rules of `torch.func` where torch.compile does not trace it.

    torch.compile refuses a Function that has a rule for forward mode, needed or not.
    """
    traced = torch.compiler.is_compiling()
    apply: Callable[..., Any] = (function if traced else _with_rules(function)).apply
    return apply(options, *tensors)


@cache
def _with_rules(function: type[Operation]) -> type[Operation]:
    class WithRules(function):  # type: ignore[misc, valid-type]  # known at run time only
        @staticmethod
        def forward(*arguments: Any) -> Any:
            # PyTorch binds the arguments at every call, which takes the longer the more are named
            return function.forward(*arguments)

        @staticmethod
        def setup_context(
            ctx: _ForwardContext, inputs: tuple[Any, ...], output: Tensor | tuple[Tensor, ...]
        ) -> None:
            function.setup_context(ctx, inputs, output)
            ctx.save_for_forward(*inputs[1:])
            ctx.all_options, ctx.single = inputs[0], isinstance(output, Tensor)
            ctx.strides = [o.stride() for o in _tuple(output)]

        @staticmethod
        def jvp(
            ctx: _ForwardContext, _: None, *tangents: Tensor | None
        ) -> Tensor | tuple[Tensor | None, ...] | None:
            def run(*tensors: Tensor | None) -> Tensor | Sequence[Tensor | None]:
                return function.composite(ctx.all_options, *tensors)

            moved = pushforward(run, ctx.saved_tensors, tangents)
            laid_out = tuple(map(_laid_out, moved, ctx.strides))
            return laid_out[0] if ctx.single else laid_out

        @staticmethod
        def vmap(info: Any, in_dims: Axes, options: Options, *tensors: Tensor | None) -> Any:
            return _vmap(function, info.batch_size, in_dims[1:], options, tensors)

    WithRules.__name__ = WithRules.__qualname__ = function.__name__
    return WithRules


def _vjp(
    function: Callable[..., tuple[Tensor, ...]], primals: Iterable[Tensor | None]
) -> tuple[tuple[Tensor, ...], Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]]:
    """torch.func.vjp, whose type has a third result, too."""
    result = torch.func.vjp(function, *primals)
    return result[0], result[1]


def cotangents(
    run: Run,
    v: Sequence[Tensor | None],
    tensors: Sequence[Tensor | None],
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Those of the tensors that are needed, from those v of what `run` makes of the tensors."""

    def primal(*wanted: Tensor) -> tuple[Tensor, ...]:
        chosen = iter(wanted)
        outputs: Any = run(
            *(next(chosen) if need else t for t, need in zip(tensors, needs, strict=True))
        )
        return outputs if isinstance(outputs, tuple) else (outputs,)

    outputs, pull = _vjp(primal, (t for t, need in zip(tensors, needs, strict=True) if need))
    pairs = zip(v, outputs, strict=True)
    pulled = iter(pull(tuple(torch.zeros_like(o) if x is None else x for x, o in pairs)))
    return [next(pulled) if need else None for need in needs]


def pullback(
    run: Run, tensors: Sequence[Tensor | None], w: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Cotangents of all the tensors, from those, w, of the outputs of `run`."""
    present = [i for i, t in enumerate(tensors) if t is not None]
    function, there = _of(run, tensors, present)
    outputs, pull = _vjp(function, (tensors[i] for i in present))
    pairs = zip((x for x, kept in zip(w, there, strict=True) if kept), outputs, strict=True)
    pulled = pull(tuple(torch.zeros_like(o) if x is None else x for x, o in pairs))
    found: list[Tensor | None] = [None] * len(tensors)
    for i, value in zip(present, pulled, strict=True):
        found[i] = value
    return found


def pushforward(
    run: Run, tensors: Sequence[Tensor | None], tangents: Sequence[Tensor | None]
) -> list[Tensor | None]:
    """Tangents of the outputs of `run`, from those of the tensors; None for what stands still.

    In reverse mode twice: torch.autograd does not nest its forward mode.
    """
    moving = [i for i, t in enumerate(tangents) if t is not None]
    function, there = _of(run, tensors, moving)
    values = tuple(tensors[i] for i in moving)
    moved = tuple(t for t in tangents if t is not None)
    outputs, pull = _vjp(function, values)
    zeros = tuple(torch.zeros_like(o) for o in outputs)
    _, push = _vjp(lambda *v: pull(v), zeros)  # the transpose of the transpose
    found = iter(push(moved))
    return [next(found) if kept else None for kept in there]


def _of(
    run: Run, tensors: Sequence[Tensor | None], chosen: list[int]
) -> tuple[Callable[..., tuple[Tensor, ...]], list[bool]]:
    """`run` as a function of the chosen tensors alone, and once run, which outputs it has."""
    there: list[bool] = []

    def function(*values: Tensor | None) -> tuple[Tensor, ...]:
        full = list(tensors)
        for i, value in zip(chosen, values, strict=True):
            full[i] = value
        outputs = _tuple(run(*full))
        there[:] = [o is not None for o in outputs]
        return tuple(o for o in outputs if o is not None)

    return function, there


def not_needed(outputs: Sequence[Tensor], needs: Sequence[bool]) -> list[Tensor]:
    """The placeholders among cotangents, which are not differentiable."""
    return [o for o, need in zip(outputs, needs, strict=True) if not need]


def of_needed(axes: Axes, needs: Sequence[bool]) -> Axes | None:
    """The batch axes of cotangents; None if a parameter's is needed, which sums over the batch."""
    if any(need and axis is None for axis, need in zip(axes, needs, strict=True)):
        return None
    return tuple(axis if need else None for axis, need in zip(axes, needs, strict=True))


def _vmap(
    function: type[Operation],
    size: int,
    mapped: Axes,
    options: Options,
    tensors: tuple[Tensor | None, ...],
) -> tuple[Tensor, int] | tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Members of the mapped axes join the batch, or where a parameter is mapped run in turn."""
    pairs = list(zip(tensors, mapped, strict=True))
    ranks = [0 if t is None else t.dim() - (d is not None) for t, d in pairs]
    axes, out_axes = function.batch_axes(options, ranks)
    joins = all(d is None or b is not None for d, b in zip(mapped, axes, strict=True))
    if out_axes is None or not joins:
        members = (
            _tuple(call(function, options, *(_member(t, d, i) for t, d in pairs)))
            for i in range(size)
        )
        outputs = tuple(torch.stack(o) for o in zip(*members, strict=True))
        places = (0,) * len(outputs)
    else:
        joined = (_join(t, d, b, size) for (t, d), b in zip(pairs, axes, strict=True))
        outputs = _tuple(call(function, options, *joined))
        outputs = tuple(_part(t, b, size) for t, b in zip(outputs, out_axes, strict=True))
        places = tuple(b or 0 for b in out_axes)
    return (outputs, places) if len(outputs) > 1 else (outputs[0], places[0])


def _member(t: Tensor | None, mapped: int | None, i: int) -> Tensor | None:
    return t if t is None or mapped is None else t.select(mapped, i)


def _join(t: Tensor | None, mapped: int | None, batch: int | None, size: int) -> Tensor | None:
    """The mapped axis, or where there is none copies, made one with the axis of the batch."""
    if t is None or batch is None:
        return t
    if mapped is None:
        t = t.unsqueeze(batch).expand(*t.shape[:batch], size, *t.shape[batch:])
    else:
        t = t.movedim(mapped, batch)
    return t.flatten(batch, batch + 1)


def _part(t: Tensor, batch: int | None, size: int) -> Tensor:
    """The opposite; an output that was not asked for is empty and the same for all members."""
    if batch is None:
        return t.expand(size, *t.shape)
    apart: Tensor = t.unflatten(batch, (size, t.shape[batch] // size))
    return apart


def _laid_out(t: Tensor | None, strides: tuple[int, ...]) -> Tensor | None:
    """With these strides: torch.autograd wants a tangent to be laid out as its output."""
    if t is None or t.stride() == strides:
        return t
    return t.new_empty_strided(t.shape, strides).copy_(t)


def _tuple(outputs: Any) -> tuple[Any, ...]:
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)
