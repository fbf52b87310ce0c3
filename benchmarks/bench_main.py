"""The whole job: ``main``, and the same trainings as tutorials write them, in CPU time and on the wall.

Run ``python -m benchmarks.bench_main``: a table, then the same as JSON. ``main`` runs once in one process and once with
as many workers as there are cores, each in a database that is created before anything is measured.

The tutorial trains one network at a time with the guide's loop and calls MLflow for each metric of each epoch; where
``main`` logs a model, it logs one in MLflow's default way. Two trainings of each stage and one for ``rings`` are run,
and the rest are taken to cost as much. It draws no figures, writes no pages and promotes nothing.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage
from typing import NamedTuple

import mlflow
import torch

from abalone.data.loading import LoadedData, load_data
from abalone.evaluation.scores import predict, scores
from abalone.model.networks import build
from abalone.settings import STAGES, StageSettings, load_settings
from abalone.side_by_side import count_workers
from abalone.tracking.database import prepare_database
from benchmarks.guide_loop import prepare_guide, train_model
from benchmarks.speed import Figure, show, times

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "main"
SEEDS = 20  # of each stage in the report
TRIALS = 64  # of both studies
STUDIED = ("encode", "regress")
RING_MEMBERS = 32  # of both fits
ALL_TRAININGS = len(STAGES) * (1 + SEEDS) + TRIALS + len(STUDIED) + RING_MEMBERS
RING_SETTINGS = {"batch_size": 256, "epochs": 45}
TARGETS = {"ratio": 15.0, "wall_share": 0.65}
PR_SET_CHILD_SUBREAPER = 36


class Cost(NamedTuple):
    """Seconds of CPU, child processes included, and on the wall."""

    cpu: float
    wall: float


def measure(arguments: tuple[str, ...] = ()) -> dict[str, float]:
    """Measure ``main`` with ``arguments`` more, and the tutorial's trainings.

    Returns
    -------
    dict
        ``one_cpu_s`` and ``one_wall_s`` of ``main`` in one process; ``cpu_s`` and ``wall_s`` with ``workers`` workers,
        and ``wall_share``, wall by CPU; ``tutorial_cpu_s`` and ``tutorial_wall_s``; ``ratio`` and ``wall_ratio``, of
        the tutorial to ``main`` with workers.
    """
    workers = count_workers("auto")
    with tempfile.TemporaryDirectory() as folder:
        one = cost_of(partial(run_main, folder, 1, arguments))
        ours = cost_of(partial(run_main, folder, workers, arguments))
        tutorial = tutorial_cost(folder)
    return {
        "workers": workers,
        "one_cpu_s": round(one.cpu, 1),
        "one_wall_s": round(one.wall, 1),
        "cpu_s": round(ours.cpu, 1),
        "wall_s": round(ours.wall, 1),
        "wall_share": round(ours.wall / ours.cpu, 2),
        "tutorial_cpu_s": round(tutorial.cpu, 1),
        "tutorial_wall_s": round(tutorial.wall, 1),
        "ratio": round(tutorial.cpu / ours.cpu, 1),
        "wall_ratio": round(tutorial.wall / ours.wall, 1),
    }


def cost_of(work: Callable[[], None]) -> Cost:
    """What a call costs, with all processes that it started."""
    cpu = cpu_seconds()
    wall = time.perf_counter()
    work()
    return Cost(cpu_seconds() - cpu, time.perf_counter() - wall)


def cpu_seconds() -> float:
    """CPU seconds of this process and of its children that have ended."""
    used = [getrusage(who) for who in (RUSAGE_SELF, RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def run_main(folder: str, workers: int, arguments: tuple[str, ...]) -> None:
    """Run the command, and wait until its last process has ended."""
    track_in(folder, f"main-{workers}.db")
    command = [sys.executable, "-m", "abalone", COMMAND, "--workers", str(workers), *arguments]
    # In a process of its own, which has no other children to wait for.
    runner = get_context("fork").Process(target=_run_to_the_last, args=(command, folder))
    runner.start()
    runner.join()
    if runner.exitcode:
        raise RuntimeError(f"{' '.join(command)} ended with status {runner.exitcode}")


def _run_to_the_last(command: list[str], folder: str) -> None:
    """Run a command and wait for all that it has started: the fork server ends a moment after the command."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # so that this process gets the CPU time of the fork server
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, capture_output=True, env=environment, cwd=folder)
    try:
        while True:
            os.wait()
    except ChildProcessError:  # no more
        pass


def track_in(folder: str, name: str) -> None:
    """Make a new database the tracking store of this process and of those that it starts."""
    uri = f"sqlite:///{folder}/{name}"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    mlflow.set_tracking_uri(uri)
    prepare_database()


def tutorial_cost(folder: str) -> Cost:
    """Cost of all trainings of ``main`` as a tutorial writes them, from one or two of each kind."""
    torch.set_num_threads(1)
    track_in(folder, "tutorial.db")
    mlflow.set_experiment("abalone")
    tutorial_training(load_settings("encode", {"epochs": 1, "device": "cpu"}), logs_model=True)  # imports what it needs
    costs = []
    for stage in STAGES:
        settings = load_settings(stage, {"device": "cpu"})
        with_model = cost_of(partial(tutorial_training, settings, logs_model=True))
        without_model = cost_of(partial(tutorial_training, settings))
        costs.append((1, with_model))
        costs.append((SEEDS, without_model))
        if stage in STUDIED:
            costs.append((TRIALS / len(STUDIED), without_model))
            costs.append((1, with_model))  # the winner
    ring_member = load_settings("encode", {**RING_SETTINGS, "device": "cpu"})
    costs.append((RING_MEMBERS, cost_of(partial(tutorial_training, ring_member))))
    cpu = sum(share * cost.cpu for share, cost in costs)
    wall = sum(share * cost.wall for share, cost in costs)
    return Cost(cpu, wall)


def tutorial_training(settings: StageSettings, logs_model: bool = False) -> None:
    """Train a network with the guide's loop, in a run with a call of MLflow per value."""
    data = load_data(settings.data, settings.seed)
    with mlflow.start_run(run_name="tutorial"):
        for name, value in settings.as_text().items():
            mlflow.log_param(name, value)
        network, loaders = prepare_guide(settings, data.x, data.rings, data.split)
        network, curves = train_model(network, loaders, settings)
        for name, values in curves.items():
            for epoch, value in enumerate(values, 1):
                mlflow.log_metric(name, value, step=epoch)
        for name, value in _test_scores(settings, network, data).items():
            mlflow.log_metric(f"{name}/test", value)
        if logs_model:
            mlflow.pytorch.log_model(network, name="network", serialization_format="pickle")


def _test_scores(settings: StageSettings, network: torch.nn.Module, data: LoadedData) -> dict[str, float]:
    model = build(settings.model_config())
    model.prepare.fit(data.x[data.split.train])
    model.network = network
    test = data.split.test
    return scores(settings.task, data.rings[test], predict(model.eval(), data.x[test]))


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    result = measure()
    name = f"`main` with {result['workers']} workers"
    peer = f"the same trainings as tutorials write them ({2 * len(STAGES) + 1} of {ALL_TRAININGS} run)"
    return [
        Figure(
            what=f"{name}, CPU",
            peer=peer,
            ours=f"{result['cpu_s']:.0f} s",
            theirs=f"{result['tutorial_cpu_s']:.0f} s",
            result=f"{times(result['ratio'])} times less CPU",
            aim=f"{TARGETS['ratio']:.0f}",
        ),
        Figure(
            what=f"{name}, wall",
            peer=peer,
            ours=f"{result['wall_s']:.0f} s",
            theirs=f"{result['tutorial_wall_s']:.0f} s",
            result=f"{times(result['wall_ratio'])} times faster",
        ),
        Figure(
            what=f"{name}, wall",
            peer="its CPU time",
            ours=f"{result['wall_s']:.0f} s",
            theirs=f"{result['cpu_s']:.0f} s",
            result=f"{result['wall_share']:.2f} of it",
            aim=f"at most {TARGETS['wall_share']} on two quiet cores",
        ),
        Figure(
            what=f"{name}, wall",
            peer="`main` in one process",
            ours=f"{result['wall_s']:.0f} s",
            theirs=f"{result['one_wall_s']:.0f} s",
            result=f"{result['wall_s'] / result['one_wall_s']:.2f} of it",
        ),
    ]


if __name__ == "__main__":
    show(figures())
