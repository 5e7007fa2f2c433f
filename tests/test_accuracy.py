# SPDX-License-Identifier: MIT
# ruff: noqa: E402 (what bench/ imports is optional, and asked for first)
"""The training runs: the smoke profile end to end, resumption, rollouts, grids, what is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

for needed in ("matplotlib", "scipy", "tabulate", "tqdm", "cpuinfo"):
    pytest.importorskip(needed, reason=f"{needed} of bench/ is not installed")

from bench.accuracy import data, evaluation, peers, report, solvers, training
from bench.accuracy.__main__ import chosen, main
from bench.accuracy.tasks import PAPER, PROFILES, PUBLISHED, SMOKE, TASKS, Settings, Task

FALLS = 0.7  # the training loss of the last epoch over the first one's

DARCY = next(t for t in TASKS if t.name == "darcy")
LINE = Task("ks-line", 1, 16, (8, 16, 32), noise=0.0)
SMALL = {"hidden": 4, "width": 4, "states": 2, "blocks": 2}


def test_smoke_profile_learns_and_reports(tmp_path, capsys):
    command = ["--profile", "smoke", "--out", str(tmp_path), "--device", "cpu"]
    assert main(command) == 0
    written = json.loads((tmp_path / "smoke" / "report.json").read_text())
    assert {"device", "versions", "commit", "date", "settings"} < set(written)
    assert [row["model"] for row in written["rows"]] == list(SMOKE.models)
    for row in written["rows"]:
        assert row["losses"][-1] < FALLS * row["losses"][0], row
        assert row["errors"]["16"] < 0.6 and row["resampled"]["32"] < 0.6, row
        assert row["model"] != "ssno" or row["errors"]["32"] < 0.6, row
        assert row["seed"] == 0 and row["seconds"] > 0
        assert row["steps"] == row["epochs"] * 48 // 24
    assert "| ssno" in (tmp_path / "smoke" / "report.md").read_text()
    for figure in ("prediction-darcy", "modes-darcy", "resolution"):
        picture = (tmp_path / "smoke" / f"{figure}.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 10_000
    assert main(command) == 0, "a second run takes what the first one made"
    again = json.loads((tmp_path / "smoke" / "report.json").read_text())
    assert again["rows"] == written["rows"]


def line_fields(count: int = 6, frames: int = 9) -> data.Fields:
    """Waves that move by a grid step of the 32 points a frame, on three grids."""
    x = torch.arange(32) * 2 * math.pi / 32
    phase = torch.rand(count, 1, 1, 1, generator=torch.Generator().manual_seed(3)) * 2 * math.pi
    moved = torch.arange(frames)[:, None, None] * 2 * math.pi / 32
    u = torch.sin(x - moved + phase) + 0.5 * torch.cos(2 * (x - moved) + phase)
    every = {n: u[..., :: 32 // n] for n in LINE.sizes}
    pairs = {n: data.Pairs(f[:, :-1], f[:, 1:]) for n, f in every.items()}
    return data.Fields(pairs[16], pairs)


def new_operator(fields: data.Fields, name: str = "ssno") -> training.Operator:
    torch.manual_seed(0)
    net = peers.MODELS[name].build(LINE, **(SMALL if name == "ssno" else {"width": 4}))
    return training.Operator(net, fields.statistics(change=True), change=True)


def holding_a_function(module, state, prefix, metadata):
    """As the state_dict of neuraloperator's models does; torch.load refuses to make one."""
    state[f"{prefix}activation"] = torch.nn.functional.gelu


def test_an_interrupted_run_ends_like_any_other(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SAVE_EVERY", 0.0)
    fields, settings = line_fields(), Settings(train=6, test=6, epochs=4, batch=4)
    task = replace(LINE, noise=0.01)  # noise and order of the samples are random
    path = tmp_path / "checkpoint.pt"

    def run(key="key", on_epoch=lambda progress: None, checkpoint=path):
        operator = new_operator(fields)
        operator.net.register_state_dict_post_hook(holding_a_function)
        progress = training.fit(
            operator, task, fields, settings, 1e-3, checkpoint, key, on_epoch=on_epoch
        )
        return training.tensors(operator), progress

    def interrupt(progress):
        if progress.epoch == 2:
            raise KeyboardInterrupt

    whole, progress = run(checkpoint=None)
    with pytest.raises(KeyboardInterrupt):
        run(on_epoch=interrupt)
    epochs = []
    resumed, later = run(on_epoch=lambda p: epochs.append(p.epoch))
    assert epochs == [3, 4]
    assert later.losses == progress.losses and later.steps == progress.steps
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    epochs.clear()
    run(key="other settings", on_epoch=lambda p: epochs.append(p.epoch))
    assert epochs == [1, 2, 3, 4]


def test_windows_stay_inside_their_samples():
    pairs = line_fields().train
    samples, starts = training.windows(pairs, 4)
    assert len(samples) == 6 * (8 // 4) and samples.bincount().tolist() == [2] * 6
    assert starts.min() >= 0 and starts.max() <= 8 - 4


@pytest.mark.parametrize("name", ["ssno", "unet"])
def test_models_see_the_past_and_not_the_future(name):
    fields = line_fields()
    operator = new_operator(fields, name).double().eval()
    x = fields.train.inputs[:, :4].double()
    out = operator(x)
    assert out.shape == x.shape
    assert torch.allclose(operator(x, last=True), out[:, -1:], rtol=1e-10)
    changed = x.clone()
    changed[:, 2] += 1
    differs = [bool((a != b).any()) for a, b in zip(out[0], operator(changed)[0], strict=True)]
    assert differs == [False, False, True, True]


class Shift(torch.nn.Module):
    """What `line_fields` does from frame to frame, if the grid has 32 points."""

    statistics = torch.zeros(4)

    def forward(self, frames, scale=1.0, last=False):
        assert scale == 16 / frames.shape[-1] and last
        return frames[:, -1:].roll(frames.shape[-1] // 32, dims=-1)


@pytest.mark.parametrize("given", [1, 3])
def test_a_rollout_feeds_the_model_its_own_frames(given):
    task, pairs = replace(LINE, given=given), line_fields().test[32]
    frames = evaluation.rollout(Shift(), task, pairs.inputs)
    error, first = evaluation.test(Shift(), task, pairs)
    assert frames.shape[1] == error.shape[1] == 8 - given + 1
    assert error.max() < 1e-5 and torch.equal(first, frames[0])


class Twice(torch.nn.Module):
    """Twice the last frame, of two or fewer."""

    def forward(self, frames, scale=1.0, last=False):
        assert frames.shape[1] <= 2
        return 2 * frames[:, -1:]


def test_frames_predicted_from_true_ones_or_from_predicted_ones():
    task = replace(LINE, given=1, history=2)
    inputs = torch.rand(3, 5, 1, 8)
    own = evaluation.rollout(Twice(), task, inputs)
    powers = 2.0 ** torch.arange(1, 6)
    assert torch.equal(own, powers.view(-1, 1, 1) * inputs[:, :1])
    assert torch.equal(evaluation.rollout(Twice(), task, inputs, forced=True), 2 * inputs)


def test_resampling_keeps_what_both_grids_resolve():
    fields = line_fields()
    for size, pairs in fields.test.items():
        found = evaluation.resample(pairs.inputs, LINE, 16)
        assert torch.allclose(found, fields.train.inputs, atol=1e-5), size


def test_resampling_between_walls_keeps_points_in_place():
    """The points of both grids are at 0, 1 / n, 2 / n ..., as those of the Darcy data are."""

    def hill(n):
        x = torch.sin(math.pi * torch.arange(n) / n)
        return (x[:, None] * x**2 * torch.ones(2, 1, 1, 1, 1)).expand(2, 3, 1, n, n)

    assert torch.equal(evaluation.resample(hill(32), DARCY, 16), hill(32)[..., ::2, ::2])
    fine = evaluation.resample(hill(16), DARCY, 32)
    assert fine.dtype == torch.float32
    torch.testing.assert_close(fine[..., ::2, ::2], hill(16))
    assert (fine - hill(32)).norm() < 1e-3 * hill(32).norm()


def test_models_are_told_of_finer_grids():
    torch.manual_seed(0)
    net = peers.MODELS["mambano, plain"].build(DARCY, width=2, hidden=4, states=2).eval()
    x = torch.randn(1, 1, 1, 32, 32)
    places = peers.places(DARCY, (32, 32))
    stacked = torch.cat([x[:, 0], places[None]], dim=1)
    assert torch.equal(net(x, 0.5)[:, 0], net.net(stacked, 0.5))
    assert torch.equal(net(x, 2.0)[:, 0], net.net(stacked))
    assert torch.equal(net(x)[:, 0], net.net(stacked))


def test_initial_conditions_do_not_depend_on_how_many_there_are_or_how_fine():
    for equation in solvers.EQUATIONS.values():

        def start(equation=equation, sample=5, **changes):
            random = np.random.default_rng([solvers.SEED, 0, sample])
            return equation.initial(replace(equation, **changes), random)

        fine = start(points=2 * equation.points)[(slice(None, None, 2),) * equation.axes]
        assert np.allclose(start(), fine, atol=1e-9) and not np.allclose(start(), start(sample=6))
        assert abs(start().mean()) < 1e-9 and start().shape == (equation.points,) * equation.axes


def test_profiles_and_names():
    assert {t.name for t in TASKS} - {"darcy"} == set(solvers.EQUATIONS)
    assert set(PUBLISHED) < {t.name for t in TASKS}
    assert {"ks", "burgers", "torus", "darcy"} == set(PAPER.settings)
    for profile in PROFILES.values():
        for task, names in chosen(profile, "", ""):
            assert task.size in task.sizes and names and profile.of(task)
    assert [t.name for t, _ in chosen(PAPER, "ks-0.1,darcy", "")] == ["ks-0.1", "darcy"]
    assert len(chosen(PAPER, "ks", "ssno;fno")) == 3
    with pytest.raises(ValueError, match="model 'resnet'; expected some of ssno"):
        chosen(PAPER, "", "resnet")
    with pytest.raises(ValueError, match="task 'heat'; expected some of ks"):
        chosen(PAPER, "heat", "")


def test_a_rollout_that_diverged_is_said_to():
    assert report.number(float("nan")) == report.number(float("inf")) == "diverges"
    assert report.finite({"a": [1.0, float("nan")]}) == {"a": [1.0, None]}


def test_committed_data_is_split_without_overlap():
    fields = data.load(DARCY, SMOKE.of(DARCY), committed_only=True)
    assert fields.train.inputs.shape == (48, 1, 1, 16, 16) and len(fields.test[16]) == 16
    both = torch.cat([fields.train.inputs, fields.test[16].inputs]).flatten(1)
    assert len(both.unique(dim=0)) == 64
    with pytest.raises(ValueError, match="60 \\+ 16 samples; bench/data holds 64"):
        data.load(DARCY, Settings(60, 16, 1, 1), committed_only=True)


def derivative(u, extent: float, axis: int, order: int = 1):
    """By the Fourier series of a periodic field."""
    k = 2 * np.pi * np.fft.fftfreq(u.shape[axis], extent / u.shape[axis])
    shape = [-1 if i == axis % u.ndim else 1 for i in range(u.ndim)]
    return np.fft.ifft((1j * k.reshape(shape)) ** order * np.fft.fft(u, axis=axis), axis=axis).real


def rate_of_change(name: str, u, extent: float):
    """u_t of an equation as its docstring in `solvers` states it, u on one grid."""
    d = partial(derivative, extent=extent)
    if name == "burgers":
        return -d(u**2 / 2, axis=0) + 0.01 / np.pi * d(u, axis=0, order=2)
    if name == "torus":
        k = 2 * np.pi * np.fft.fftfreq(len(u), extent / len(u))
        square = k[:, None] ** 2 + k**2
        square[0, 0] = 1
        stream = np.fft.ifft2(np.fft.fft2(u) / square).real  # -laplacian stream = w
        v = d(stream, axis=1), -d(stream, axis=0)
        assert np.allclose(d(v[1], axis=0) - d(v[0], axis=1), u, atol=1e-8)
        x = np.arange(len(u)) / len(u)
        angle = 2 * np.pi * (x[:, None] + x)
        diffused = 1e-5 * (d(u, axis=0, order=2) + d(u, axis=1, order=2))
        carried = v[0] * d(u, axis=0) + v[1] * d(u, axis=1)
        return diffused - carried + 0.1 * (np.sin(angle) + np.cos(angle))
    viscosity = float(name.split("-")[1])
    return -u * d(u, axis=0) - d(u, axis=0, order=2) - viscosity * d(u, axis=0, order=4)


@pytest.mark.parametrize("name", ["ks-0.075", "ks-0.125", "burgers", "torus"])
def test_solvers_begin_as_their_equations_say(name):
    pytest.importorskip("exponax", reason="bench/accuracy/requirements.txt is not installed")
    equation = replace(solvers.EQUATIONS[name], keep=1, frames=2, interval=2e-3, substeps=1)
    initial, later = solvers.solve(equation, "test", 1)[0].astype(np.float64)
    found = (later - initial) / equation.dt
    wanted = rate_of_change(name, (initial + later) / 2, equation.extent)
    assert np.linalg.norm(found - wanted) < 2e-2 * np.linalg.norm(wanted)
