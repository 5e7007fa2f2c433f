# SPDX-License-Identifier: MIT
"""`python -m bench.accuracy`: train the models on the same data and budget, test, report.

What was trained is kept in the folder of the report: the same command after an interruption goes
on from there, and trains only what is missing.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import torch

from bench.environment import environment

from . import data, evaluation, peers, report
from .tasks import PROFILES, TASKS, Profile, Settings, Task
from .training import Operator, fit

ROOT = Path(__file__).parents[2]
PACKAGES = ("neuraloperator", "exponax", "jax", "equinox")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.accuracy", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="short")
    parser.add_argument("--task", default="", help="comma-separated: ks,darcy or ks-0.1")
    parser.add_argument("--model", default="", help="semicolon-separated names: 'ssno;fno'")
    parser.add_argument("--out", type=Path, default=Path("bench/out/accuracy"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"))
    return parser.parse_args(arguments)


def chosen(profile: Profile, tasks: str, models: str) -> list[tuple[Task, list[str]]]:
    """The tasks of a run and the models trained on each."""
    wanted = tasks.split(",") if tasks else [*profile.settings]
    names = models.split(";") if models else profile.models or tuple(peers.MODELS)
    if unknown := set(names) - set(peers.MODELS):
        raise ValueError(f"model {unknown.pop()!r}; expected some of {'; '.join(peers.MODELS)}")
    served = [t for t in TASKS if profile.of(t) and {t.name, t.family} & set(wanted)]
    if unknown := set(wanted) - {name for t in served for name in (t.name, t.family)}:
        raise ValueError(f"task {unknown.pop()!r}; expected some of {', '.join(profile.settings)}")
    return [
        (t, [n for n in peers.MODELS if n in names and peers.MODELS[n].serves(t)]) for t in served
    ]


@cache
def sources() -> str:
    """A hash of what a result depends on; one that other sources made is not taken for it."""
    files = [p for f in ("csrc", "ssno_kernels", "bench/accuracy") for p in (ROOT / f).rglob("*")]
    shown = ("report.py", "figures.py")
    kept = sorted(p for p in files if p.suffix in (".py", ".h", ".cpp") and p.name not in shown)
    return hashlib.sha256(b"".join(p.read_bytes() for p in kept)).hexdigest()


def train_and_test(
    task: Task, name: str, fields: data.Fields, settings: Settings, options: dict,
    folder: Path, device: str,
) -> report.Row:  # fmt: skip
    """One model of one task, or what an earlier run with the same settings made of it."""
    model = peers.MODELS[name]
    rate = settings.rate or model.rate
    stated = json.dumps([sources(), asdict(task), name, asdict(settings), options, device])
    key = hashlib.sha256(stated.encode()).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    result = folder / "result.json"
    if result.exists() and (kept := json.loads(result.read_text()))["key"] == key:
        return report.Row(**kept["row"])
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = model.build(task, **options)
    operator = Operator(net, fields.statistics(model.change), model.change)
    initial = evaluation.modes(net)
    progress = fit(operator, task, fields, settings, rate, folder / "checkpoint.pt", key, device)
    errors, resampled, kept_arrays = {}, {}, {}
    for size, pairs in fields.test.items():
        if size != task.size:
            pairs = pairs.part(slice(settings.transfer))
        error, first = evaluation.test(operator, task, pairs)
        errors[str(size)] = error.mean().item()
        if size == task.size:
            by_frame = error.mean(0).tolist()
        else:
            resampled[str(size)] = evaluation.test(operator, task, pairs, True)[0].mean().item()
        kept_arrays[f"predicted_{size}"] = first[:, 0].numpy()
        kept_arrays[f"truth_{size}"] = pairs.targets[0, task.given - 1 :, 0].numpy()
    for when, found in (("initial", initial), ("learnt", evaluation.modes(net))):
        kept_arrays |= {f"{when}/{layer}": values.numpy() for layer, values in found.items()}
    np.savez(folder / "sample.npz", **kept_arrays)
    row = report.Row(
        task.name, name, peers.parameters(net), progress.epoch, progress.steps, progress.seconds,
        progress.losses, errors, resampled, by_frame, settings.seed, rate,
    )  # fmt: skip
    result.write_text(json.dumps({"key": key, "row": asdict(row)}, indent=1))
    return row


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    profile = PROFILES[options.profile]
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        plan = chosen(profile, options.task, options.model)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    started = datetime.datetime.now(datetime.timezone.utc)
    run = environment(device, profile.name, started)
    run["command"] = " ".join(["python -m bench.accuracy", *sys.argv[1:]])
    run["versions"] |= report.versions(PACKAGES)
    run["settings"] = {}
    folder = options.out / profile.name
    rows = []
    for task, names in plan:
        settings = Settings(**asdict(profile.of(task)) | {"seed": options.seed})
        run["settings"][task.name] = asdict(settings)
        fields = data.load(task, settings, profile.committed_only)
        for name in names:
            print(f"{task.name}: {name}", file=sys.stderr, flush=True)
            own = folder / task.name / name.replace(", ", "-").replace(" ", "-").replace("'", "")
            row = train_and_test(
                task, name, fields, settings, profile.options.get(name, {}), own, device
            )  # fmt: skip
            rows.append((row, own))
    report.write(folder, run, rows)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
