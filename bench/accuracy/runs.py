# SPDX-License-Identifier: MIT
"""A model of a task trained and tested, or what an earlier run made of it; several at a time."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from ssno_kernels.builder import cores

from . import data, evaluation, peers, training
from .report import Row
from .tasks import Settings, Task

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """One row of the report; `out` is the folder of all of them."""

    task: Task
    model: str
    settings: Settings
    options: dict
    out: Path
    device: str
    committed_only: bool

    @property
    def folder(self) -> Path:
        """What is kept of it."""
        return self.out / self.task.name / re.sub(r"\W+", "-", self.model)


@cache
def sources() -> str:
    """A hash of what a result depends on; one that other sources made is not taken for it."""
    files = [p for f in ("csrc", "ssno_kernels", "bench/accuracy") for p in (ROOT / f).rglob("*")]
    shown = ("report.py", "figures.py")
    kept = sorted(p for p in files if p.suffix in (".py", ".h", ".cpp") and p.name not in shown)
    return hashlib.sha256(b"".join(p.read_bytes() for p in kept)).hexdigest()


def row_of(run: Run) -> Row:
    task, settings = run.task, run.settings
    model = peers.MODELS[run.model]
    rate = settings.rate or model.rate
    identity = [sources(), asdict(task), run.model, asdict(settings), run.options, run.device]
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    run.folder.mkdir(parents=True, exist_ok=True)
    result = run.folder / "result.json"
    if result.exists() and (kept := json.loads(result.read_text()))["key"] == key:
        return Row(**kept["row"])
    print(f"{task.name}: {run.model}", file=sys.stderr, flush=True)
    fields = data.load(task, settings, run.committed_only)
    with torch.random.fork_rng():
        torch.manual_seed(settings.seed)
        net = model.build(task, **run.options)
    operator = training.Operator(net, fields.statistics(model.change), model.change)
    initial = evaluation.modes(net)
    checkpoint = run.folder / "checkpoint.pt"
    progress = training.fit(operator, task, fields, settings, rate, checkpoint, key, run.device)
    errors, resampled, next_frame, kept_arrays = {}, {}, {}, {}
    for size, pairs in fields.test.items():
        if size != task.size:
            pairs = pairs.part(slice(settings.transfer))
        error, first = evaluation.test(operator, task, pairs)
        errors[str(size)] = error.mean().item()
        if task.rolls:
            forced, _ = evaluation.test(operator, task, pairs, forced=True)
            next_frame[str(size)] = forced.mean().item()
        if size == task.size:
            by_frame = error.mean(0).tolist()
        else:
            resampled[str(size)] = evaluation.test(operator, task, pairs, True)[0].mean().item()
        kept_arrays[f"predicted_{size}"] = first[:, 0].numpy()
        kept_arrays[f"truth_{size}"] = pairs.targets[0, task.given - 1 :, 0].numpy()
    for when, found in (("initial", initial), ("learnt", evaluation.modes(net))):
        kept_arrays |= {f"{when}/{layer}": values.numpy() for layer, values in found.items()}
    np.savez(run.folder / "sample.npz", **kept_arrays)
    row = Row(
        task.name, run.model, peers.parameters(net), progress.epoch, progress.steps,
        progress.seconds, progress.losses, errors, resampled, next_frame,
        by_frame, settings.seed, rate,
    )  # fmt: skip
    result.write_text(json.dumps({"key": key, "row": asdict(row)}, indent=1))
    return row


def rows_of(runs: Iterable[Run], jobs: int) -> list[tuple[Row, Path]]:
    """Rows and their folders in the order of the runs, of which so many go on at a time.

    Each has a process with its share of the cores: a line of 64 points keeps no more than one busy.
    """
    if jobs == 1:
        return [(row_of(run), run.folder) for run in runs]
    context = multiprocessing.get_context("spawn")
    places = context.Queue()
    for place in range(jobs):
        places.put(place)
    threads = max(1, cores() // jobs)
    pool = ProcessPoolExecutor(jobs, context, _start_process, (threads, places))
    try:
        # a run that is listed has its data, which is solved while others train
        waiting = [(pool.submit(row_of, run), run.folder) for run in runs]
        rows = [(row.result(), folder) for row, folder in waiting]
    except BaseException:  # an interruption, too: nothing is swallowed, but no process stays behind
        processes = multiprocessing.active_children()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in processes:
            process.terminate()
        raise
    pool.shutdown()
    return rows


def _start_process(threads: int, places: multiprocessing.Queue) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # an interruption is the first process's to tell
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    training.bar_place = places.get()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
