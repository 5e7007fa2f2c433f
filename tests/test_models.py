# SPDX-License-Identifier: MIT
"""The thin models: shapes, symmetries, frame by frame = all at once, a loss that falls."""

from __future__ import annotations

import copy

import harness
import pytest
import torch

from ssno_kernels.models import SSNO1d, SSNO2d, SSNO3d

GRIDS = {SSNO1d: (24,), SSNO2d: (8, 10), SSNO3d: (4, 3, 5)}
each_model = pytest.mark.parametrize("model", GRIDS, ids=lambda m: m.__name__)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def small(model, **options):
    return model(2, 1, **({"hidden": 6, "width": 8, "states": 3} | options)).double()


def fields(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("model", [SSNO2d, SSNO3d])
def test_untrained_output_of_a_slow_field_is_not_large(model):
    """Axes swept in turn multiply what they amplify it by: with S4D's coefficients, four times
    larger, it is 1.5 to 14 in 2-D and 89 to 720 in 3-D (eight seeds).
    """
    net = model(1, 1, hidden=32, width=32, states=8)
    x = torch.cos(2 * torch.pi * torch.arange(32) / 32).expand(1, 1, *[32] * net.axes)
    assert 0.005 < net(x).std().item() < 1


@each_model
@pytest.mark.parametrize("factorised", [False, True], ids=["in-turn", "factorised"])
def test_frame_by_frame_is_all_at_once(model, factorised):
    net = small(model, factorised=factorised, memory=True)
    frames = fields(2, 4, 2, *GRIDS[model])
    whole = net(frames)
    assert whole.shape == (2, 4, 1, *GRIDS[model])
    state = None
    for k in range(4):
        out, state = net.advance(frames[:, k], state)
        assert harness.relative_error(out, whole[:, k]) < 1e-10
    assert harness.relative_error(net(frames[:, 0]), whole[:, 0]) < 1e-10
    later = frames.clone()
    later[:, 2:] = 0
    assert harness.relative_error(net(later)[:, :2], whole[:, :2]) < 1e-10, "sees the future"
    assert harness.relative_error(net(frames[:, 1:])[:, 0], whole[:, 1]) > 1e-3, "forgets"


@each_model
def test_periodic_model_commutes_with_shifts(model):
    net = small(model)
    x = fields(2, 2, *GRIDS[model])
    axes = tuple(range(2, x.dim()))
    shifts = tuple(range(1, len(axes) + 1))
    assert harness.relative_error(net(x.roll(shifts, axes)), net(x).roll(shifts, axes)) < 1e-10


@each_model
def test_every_point_reaches_every_point(model):
    """A full field of view, as universality needs; not so with one direction and no period."""
    grid = GRIDS[model]
    middle = tuple(n // 2 for n in grid)
    for direction, full in (("both", True), ("forward", False)):
        net = small(model, direction=direction, boundary="zero")
        x = fields(1, 2, *grid).requires_grad_()
        (reach,) = torch.autograd.grad(net(x)[(0, 0, *middle)], x)
        assert bool(reach[0].all()) == full


def test_learnt_parameters_of_the_ablations():
    for name in ("damping", "frequency"):
        net = small(SSNO2d, memory=True, **{f"learn_{name}": False})
        frozen = {key.rsplit(".", 1)[1] for key, p in net.named_parameters() if not p.requires_grad}
        assert frozen == {{"damping": "log_damping", "frequency": "frequency"}[name], "log_step"}


def test_sizes_of_the_paper():
    """Hidden 64, width 128, 32 pairs, 4 blocks; the paper's 2-D model has 369,665 parameters."""
    count = sum(p.numel() for p in SSNO2d(1, 1, memory=True).parameters())
    assert 200_000 < count < 369_665


def test_copies_and_state_dict():
    net, x = small(SSNO1d, memory=True), fields(1, 3, 2, 16)
    other = small(SSNO1d, memory=True)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x)) and torch.equal(copy.deepcopy(net)(x), net(x))


@pytest.mark.parametrize("memory", [False, True], ids=["space", "memory"])
def test_training_lowers_the_loss(memory):
    """A tenth of the initial error in 60 steps: the periodic field's derivative is learnt."""
    net = SSNO1d(1, 1, hidden=16, width=16, states=8, blocks=2, memory=memory)
    x = torch.arange(32) * 2 * torch.pi / 32
    k = torch.arange(1.0, 4)[:, None]
    amplitude, phase = torch.randn(16, 2, 3, 1), 6 * torch.rand(16, 2, 3, 1)
    u = (amplitude * torch.sin(k * x + phase)).sum(2)
    wanted = (amplitude * k * torch.cos(k * x + phase)).sum(2)
    optimiser = torch.optim.AdamW(net.parameters(), lr=5e-3)
    losses = []
    for _ in range(60):
        loss = (net(u[:, :, None])[:, :, 0] - wanted).square().mean() / wanted.square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]
