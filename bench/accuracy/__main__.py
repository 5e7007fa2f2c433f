# SPDX-License-Identifier: MIT
"""`python -m bench.accuracy`: train the models on the same data and budget, test, report.

What was trained is kept in the folder of the report: the same command after an interruption goes
on from there, and trains only what is missing.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from bench.environment import environment
from ssno_kernels.builder import cores

from . import data, peers, report
from .runs import Run, rows_of
from .tasks import PROFILES, TASKS, Profile, Task

PACKAGES = ("neuraloperator", "exponax", "jax", "equinox")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m bench.accuracy", description=__doc__)
    parser.add_argument("--profile", choices=PROFILES, default="short")
    parser.add_argument("--task", default="", help="comma-separated: ks,darcy or ks-0.1")
    parser.add_argument("--model", default="", help="semicolon-separated names: 'ssno;fno'")
    parser.add_argument("--out", type=Path, default=Path("bench/out/accuracy"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, help="models trained at a time; on a CPU 2 if left out")
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


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    profile = PROFILES[options.profile]
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    jobs = (1 if device == "cuda" else min(2, cores())) if options.jobs is None else options.jobs
    try:
        plan = chosen(profile, options.task, options.model)
        if jobs < 1:
            raise ValueError(f"{jobs} jobs; expected at least 1")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    started = datetime.datetime.now(datetime.timezone.utc)
    about = environment(device, profile.name, started, "bench.accuracy")
    about["versions"] |= report.versions(PACKAGES)
    about["settings"], about["jobs"] = {}, jobs
    folder = options.out / profile.name

    def runs() -> Iterator[Run]:
        for task, names in plan:
            settings = replace(profile.of(task), seed=options.seed)
            about["settings"][task.name] = asdict(settings)
            data.load(task, settings, profile.committed_only)  # solves it while others train
            for name in names:
                model = profile.options.get(name, {})
                yield Run(task, name, settings, model, folder, device, profile.committed_only)

    report.write(folder, about, rows_of(runs(), jobs))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        sys.exit(130)
