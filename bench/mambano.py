# SPDX-License-Identifier: MIT
"""`python -m bench.mambano`: a training step of MambaNO2d, and of the same written in PyTorch."""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, layer_norm, linear

from ssno_kernels.models import MambaNO2d
from ssno_kernels.nn import AliasFreeActivation, CrossSelectiveScan
from ssno_kernels.nn.cross_selective_scan import alias_free_gate
from ssno_kernels.nn.stencil import stencil

from . import memory, selective_scan_peers
from .alias_free_activation import zero_insertion
from .environment import environment, slug
from .fields import darcy

TOLERANCE = 1e-4
WANTED = 10  # times faster


class PlainActivation(nn.Module):
    """An `AliasFreeActivation` by zero insertion and convolutions."""

    def __init__(self, layer: AliasFreeActivation):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        layer = self.layer
        names = ("up", "down", "padding")
        options = {name: getattr(layer.resampling, name) for name in names}
        filters = {"up_filter": layer.up_filter, "down_filter": layer.down_filter}
        return zero_insertion({"x": x, "bias": layer.bias} | filters | options)


class PlainScan(nn.Module):
    """A `CrossSelectiveScan` on two axes as it is written in PyTorch: stack, flip, scan, flip."""

    def __init__(self, layer: CrossSelectiveScan):
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        layer = self.layer
        batch, _, height, width = x.shape
        x, z = linear(x.permute(0, 2, 3, 1), layer.in_proj.weight).chunk(2, dim=-1)
        x = layer.activation(stencil(layer.conv, x.permute(0, 3, 1, 2), scale))
        both = torch.stack([x.flatten(2), x.mT.flatten(2)], dim=1)
        xs = torch.cat([both, both.flip(-1)], dim=1)  # (B, 4, D, L)
        maps = layer.x_proj.weight.unflatten(0, (4, -1))
        projected = torch.einsum("bkdl,kcd->bkcl", xs, maps)
        delta, B, C = projected.split([layer.rank, layer.states, layer.states], dim=2)
        delta = torch.einsum("bkrl,kdr->bkdl", delta, layer.delta_weight)
        ys = selective_scan_peers.mambapy(
            {
                "u": xs.flatten(1, 2),
                "delta": delta.flatten(1, 2),
                "A": -layer.A_log.exp().flatten(0, 1),
                "B": B,
                "C": C,
                "D": layer.D.flatten(),
                "delta_bias": layer.delta_bias.flatten(),
                "delta_softplus": True,
            }
        ).unflatten(1, (4, -1))
        rows, columns = (ys[:, :2] + ys[:, 2:].flip(-1)).unbind(1)
        y = rows + columns.unflatten(-1, (width, height)).mT.flatten(2)
        norm = layer.norm
        y = layer_norm(y.mT, norm.normalized_shape, norm.weight, norm.bias, norm.eps)
        gate = alias_free_gate(z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        out = linear(y.view(batch, height, width, -1) * gate, layer.out_proj.weight)
        return out.permute(0, 3, 1, 2)


def plain(model: MambaNO2d) -> MambaNO2d:
    """The same model with the same weights, without a kernel of ours."""
    model = copy.deepcopy(model)
    for kind, written in ((AliasFreeActivation, PlainActivation), (CrossSelectiveScan, PlainScan)):
        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, kind):
                    setattr(parent, name, written(child))
    return model


def loss_of(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The relative L1 error, as MambaNO is trained, and the model's output."""
    torch.manual_seed(0)  # the same paths are dropped
    out = model(x)
    return ((out - y).abs().flatten(1).sum(1) / y.abs().flatten(1).sum(1)).mean(), out


def first_step(model: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The output and the gradient of all parameters, as one vector."""
    loss, out = loss_of(model, x, y)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    return out.detach(), torch.cat([g.flatten() for g in gradients])


def seconds_of_steps(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=7e-4, weight_decay=1e-10)
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        loss, _ = loss_of(model, x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def fields(batch: int, size: int) -> tuple[Tensor, Tensor]:
    """Permeabilities and solutions of Darcy flow on a grid of this size."""
    both = interpolate(darcy(32)[:batch], size=(size, size), mode="bilinear", align_corners=False)
    return both[:, :1], both[:, 1:]


def measure(width: int, batch: int, size: int, steps: int, plain_steps: int) -> dict:
    """What both models came to, the plain one first checked against ours."""
    torch.manual_seed(0)
    ours = MambaNO2d(1, 1, width=width)
    models = {"ssno_kernels": (ours, steps), "plain": (plain(ours), plain_steps)}
    x, y = fields(batch, size)
    result: dict = {"width": width, "batch": batch, "size": size}
    first = {}
    for name, (model, count) in models.items():
        first[name], extra = memory.peak(lambda model=model: first_step(model, x, y), "cpu")
        seconds = seconds_of_steps(model, x, y, count)
        result[name] = {
            "seconds": statistics.median(seconds),
            "all_seconds": seconds,
            "extra_bytes": extra,
        }
    (out, gradient), (expected, other) = first["ssno_kernels"], first["plain"]
    result["output_differs_by"] = ((out - expected).norm() / expected.norm()).item()
    result["gradient_differs_by"] = ((gradient - other).norm() / other.norm()).item()
    result["times_faster"] = result["plain"]["seconds"] / result["ssno_kernels"]["seconds"]
    result["times_wanted"] = WANTED
    return result


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what a step takes, and write it; 1 if the models differ."""
    parser = argparse.ArgumentParser("python -m bench.mambano", description=__doc__)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--plain-steps", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/out"), help="folder of the report")
    options = parser.parse_args(arguments)
    started = datetime.datetime.now(datetime.timezone.utc)
    run = environment("cpu", "mambano", started, "bench.mambano")
    result = measure(options.width, options.batch, options.size, options.steps, options.plain_steps)
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"mambano-{slug('cpu')}-{started:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(run | {"mambano": result}, indent=1) + "\n")
    for name in ("ssno_kernels", "plain"):
        row = result[name]
        print(f"{name}: {row['seconds']:.3f} s a step, {row['extra_bytes'] / 2**20:.0f} MiB extra")
    print(
        f"{result['times_faster']:.1f} times faster (wanted {WANTED}); output differs by "
        f"{result['output_differs_by']:.1e}, gradient by {result['gradient_differs_by']:.1e}"
    )
    print(f"written: {path}")
    return 0 if result["output_differs_by"] <= TOLERANCE else 1


if __name__ == "__main__":
    raise SystemExit(main())
