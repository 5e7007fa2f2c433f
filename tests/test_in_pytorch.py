# SPDX-License-Identifier: MIT
"""Operators and models inside PyTorch's own tools: autocast, checkpointing, export, copies, DDP."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import harness
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch.utils.checkpoint import checkpoint

from ssno_kernels import selective_scan
from ssno_kernels.models import MambaNO2d, SSNO1d, SSNO2d
from ssno_kernels.nn import AliasFreeActivation, CrossSelectiveScan, DampedConv

MODULES = {
    "DampedConv": lambda: DampedConv(3, 2),
    "AliasFreeActivation": lambda: AliasFreeActivation(1, 1, 3),
    "CrossSelectiveScan": lambda: CrossSelectiveScan(3, states=2),
    "SSNO1d": lambda: SSNO1d(3, 1, hidden=4, width=4, states=2, blocks=2, memory=True),
    "SSNO2d": lambda: SSNO2d(3, 1, hidden=4, width=4, states=2, blocks=2),
    "MambaNO2d": lambda: MambaNO2d(3, 1, width=2, hidden=4, states=2, drop_path=0.0),
}
each_module = pytest.mark.parametrize("name", MODULES)
each_case = pytest.mark.parametrize("spec, backend, sample", harness.cases())


def made(name: str):
    torch.manual_seed(0)
    return MODULES[name]()


def field(name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, *((8,) if name == "SSNO1d" else (8, 8)), dtype=dtype)


@each_case
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(spec, backend, sample, dtype):
    """The result of the cast activations, in their dtype; states and gradients stay float32."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    leaves = {k: x.detach().requires_grad_() for k, x in harness.tensors(inputs).items()}
    with torch.autocast(device, dtype):
        outputs = harness.as_tuple(spec.function(**(inputs | leaves), backend=backend))
    expected = harness.as_tuple(spec.function(**inputs, backend="composite"))
    for output, other in zip(outputs, expected, strict=True):
        assert harness.relative_error(output, other) < 3e-2  # the inputs are rounded as well
    assert outputs[0].dtype == dtype
    assert all(o.dtype in (torch.float32, torch.complex64) for o in outputs[1:])
    outputs[0].float().sum().backward()
    for name, x in leaves.items():
        # the output does not depend on what follows the last sample
        assert x.grad is None or (x.grad.dtype == x.dtype and x.grad.isfinite().all()), name
    assert next(iter(leaves.values())).grad.any()


def test_autocast_leaves_float64_alone():
    spec = harness.SPECS[0]
    inputs = harness.first_core(spec)
    with torch.autocast("cpu", torch.bfloat16):
        out = harness.as_tuple(spec.function(**inputs))[0]
    assert out.dtype == torch.float64


@pytest.mark.parametrize("backend", ["cpu", "composite"])
def test_extremes_of_half_precision_give_no_nan(backend):
    """Steps and rates as large and as small as bfloat16 holds."""
    harness.need("selective_scan", backend)
    steps = torch.tensor([0.0, 1e-38, 1e-5, 1.0, 1e4, 3e38, 88.0, -50.0])
    delta = steps.to(torch.bfloat16).expand(1, 4, 8)
    A = -torch.tensor([0.0, 1e-38, 1.0, 3e38])[:, None]
    u = torch.ones(1, 4, 8, dtype=torch.bfloat16)
    B = C = torch.full((1, 1, 8), 1e-3, dtype=torch.bfloat16)
    bounded = selective_scan(u, delta, A, B, C, delta_softplus=True, backend=backend)
    assert bounded.any() and not bounded.isnan().any()


@each_case
def test_checkpointing_changes_nothing(spec, backend, sample):
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float64), device)

    def recomputed(**arguments):
        return checkpoint(lambda: spec.function(**arguments), use_reentrant=False)

    outputs = harness.as_tuple(spec.function(**inputs, backend=backend))
    cotangents = harness.cotangents_for(outputs)
    expected = harness.run(spec, inputs, backend, cotangents)
    results = harness.run(spec, inputs, backend, cotangents, function=recomputed)
    for key, value in expected.items():
        assert torch.equal(results[key], value), key


class Call(torch.nn.Module):
    """An operator as a module, its tensors in order."""

    def __init__(self, spec, inputs, backend):
        super().__init__()
        self.names = list(harness.tensors(inputs))
        self.operator, self.inputs, self.backend = spec.function, inputs, backend

    def forward(self, *tensors):
        changed = dict(zip(self.names, tensors, strict=True))
        return self.operator(**(self.inputs | changed), backend=self.backend)


@pytest.mark.parametrize("spec, backend, sample", harness.cases(simulate=False))
def test_export(spec, backend, sample, tmp_path):
    """Exported, saved, loaded and run: the same numbers."""
    device = harness.need(spec.name, backend)
    inputs = harness.to_device(sample.make(torch.float32), device)
    tensors = tuple(harness.tensors(inputs).values())
    call = Call(spec, inputs, backend)
    torch.export.save(torch.export.export(call, tensors), tmp_path / "program.pt2")
    loaded = torch.export.load(tmp_path / "program.pt2").module()
    for value, expected in zip(
        harness.as_tuple(loaded(*tensors)), harness.as_tuple(call(*tensors)), strict=True
    ):
        assert torch.equal(value, expected)


COMPILED_AHEAD = """
import sys, harness, torch
from test_in_pytorch import Call
[spec] = [s for s in harness.SPECS if s.name == sys.argv[1]]
inputs = harness.first_core(spec, torch.float32)
tensors = tuple(harness.tensors(inputs).values())
call = Call(spec, inputs, "cpu")
program = torch.export.export(call, tensors)
package = torch._inductor.aoti_compile_and_package(program, package_path=sys.argv[2])
outputs = harness.as_tuple(torch._inductor.aoti_load_package(package)(*tensors))
expected = harness.as_tuple(call(*tensors))
assert len(outputs) == len(expected)
assert all(torch.equal(o, e) for o, e in zip(outputs, expected))
"""


@pytest.mark.parametrize("spec", harness.SPECS, ids=lambda spec: spec.name)
def test_ahead_of_time_compilation(spec, tmp_path):
    """Exported, compiled by AOTInductor, loaded and run: the same numbers.

    In a process of its own: setuptools, which the compiler imports, has to come before distutils.
    """
    harness.need(spec.name, "cpu")
    run = subprocess.run(
        [sys.executable, "-c", COMPILED_AHEAD, spec.name, str(tmp_path / "program.pt2")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@each_module
def test_copies_are_equal_and_apart(name, tmp_path):
    module, x = made(name).eval(), field(name)
    expected = module(x)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    torch.save(state, tmp_path / "state.pt")
    other = MODULES[name]().eval()
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), other):
        assert torch.equal(twin(x), expected)
        with torch.no_grad():
            for p in twin.parameters():
                p.add_(1)
    assert torch.equal(module(x), expected)


@each_module
def test_casts(name):
    module, x = made(name).eval(), field(name)
    expected = module(x)
    assert harness.relative_error(module.double()(x.double()), expected) < 1e-4
    assert module(x.double()).dtype == torch.float64
    low = module.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert low.dtype == torch.bfloat16 and harness.relative_error(low, expected) < 0.2


@each_module
def test_meta_device(name):
    """Made without memory, then filled: the same as one made in memory."""
    module = made(name).eval()
    with torch.device("meta"):
        empty = MODULES[name]()
    assert all(p.is_meta for p in empty.parameters())
    assert {k: v.shape for k, v in empty.state_dict().items()} == {
        k: v.shape for k, v in module.state_dict().items()
    }
    empty = empty.to_empty(device="cpu").eval()
    empty.load_state_dict(module.state_dict())
    x = field(name)
    assert torch.equal(empty(x), module(x))


@pytest.mark.parametrize("name", ["SSNO1d", "MambaNO2d"])
def test_models_under_autocast(name):
    model, x = made(name), field(name)
    model.eval()  # normalising a batch of two points would blow the rounding up
    expected = model(x).detach()
    with torch.autocast("cpu", torch.bfloat16):
        y = model(x)
        y.float().square().mean().backward()
    assert y.dtype == torch.bfloat16 and harness.relative_error(y, expected) < 3e-2
    assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())


@pytest.mark.parametrize("name", ["SSNO1d", "MambaNO2d"])
def test_physics_informed_training(name):
    """A loss with second derivatives of the output in a coordinate that the model is given."""
    model, x = made(name).double(), field(name, torch.float64)
    optimiser = torch.optim.Adam(model.parameters(), 2e-2)
    losses = []
    for _ in range(4):
        place = x[:, :1].clone().requires_grad_()
        u = model(torch.cat([place, x[:, 1:]], dim=1))
        (u_x,) = torch.autograd.grad(u.sum(), place, create_graph=True)
        (u_xx,) = torch.autograd.grad(u_x.sum(), place, create_graph=True)
        assert u_xx.any()
        loss = (u_xx - u_x + u - 1).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    assert losses[-1] < 0.97 * losses[0], losses


def _train_shard(rank: int, store: str, wrap: str, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    torch.manual_seed(0)
    model = MODULES["SSNO1d"]()
    if wrap == "ddp":
        model = torch.nn.parallel.DistributedDataParallel(model)
    else:
        from torch.distributed.fsdp import fully_shard

        mesh = dist.init_device_mesh("cpu", (2,))
        for block in (*model.early, *model.late, model.memory):
            fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)
    model(field("SSNO1d")[rank : rank + 1]).square().mean().backward()
    gradients = [p.grad for p in model.parameters()]
    gradients = [g.full_tensor() if hasattr(g, "full_tensor") else g for g in gradients]
    if rank == 0:
        results.put([g.numpy() for g in gradients])
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.parametrize("wrap", ["ddp", "fsdp2"])
def test_two_processes_average_gradients(wrap, tmp_path):
    """Half of the batch each, by DistributedDataParallel or fully_shard over gloo."""
    context = torch.multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    torch.multiprocessing.start_processes(
        _train_shard, (str(tmp_path / "store"), wrap, results), nprocs=2, join=True
    )
    found = [torch.from_numpy(g) for g in results.get()]
    model = made("SSNO1d")
    model(field("SSNO1d")).square().mean().backward()
    for value, p in zip(found, model.parameters(), strict=True):
        assert harness.relative_error(value, p.grad) < 1e-5
