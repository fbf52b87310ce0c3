"""CPU time of a tracked study, against the same study as tutorials write it: a run and a loop per trial.

Run ``python -m benchmarks.bench_tuning``, or ``make bench`` for all benchmarks. The tutorial's trials log metric by
metric and none is pruned, so our study is measured with and without pruning. Only a few of the tutorial's trials are
run; the rest are taken to cost as much on average.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import mlflow
import optuna
import torch

from abalone.data.loading import load_data
from abalone.evaluation.scores import predict, scores
from abalone.model.networks import build
from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.tracking.database import prepare_database
from abalone.tracking.runs import tracked_run
from abalone.training.initialization import targets
from abalone.training.population import fit_many
from abalone.tuning import batches
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.storage import JOURNAL, open_study
from abalone.tuning.study_run import log_study
from abalone.tuning.trial_runs import close_trial, open_trials
from abalone.tuning.tune import run_study
from benchmarks.guide_loop import make_dataloaders, train_model
from benchmarks.speed import Figure, show, times

TRIALS = 48
TUTORIAL_TRIALS = 6
TARGETS = {"ratio": 10.0, "tracking_ms": 40.0}


def measure() -> dict[str, float]:
    """Run the studies in turn, in one process that has imported and opened everything.

    Returns
    -------
    dict
        ``study_s``, CPU seconds of 48 trials of 50 epochs, with the runs of the trials and of the study;
        ``unpruned_s``, the same without pruning; ``tutorial_s``, CPU seconds of 48 of the tutorial's trials; ``ratio``
        and ``unpruned_ratio``, of the tutorial to ours; ``tracking_ms``, CPU milliseconds per trial of writing its run.
    """
    torch.set_num_threads(1)
    plan = Plan("encode", load_settings("encode", {"device": "cpu"}), read_space(SEARCHED_BY_DEFAULT))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        prepare_database()
        mlflow.set_experiment("abalone")
        run_ours(plan, "warm", trials=16)
        tracking = Stopwatch()
        timed = {"open_trials": tracking.timed(open_trials), "close_trial": tracking.timed(close_trial)}
        with mock.patch.multiple(batches, **timed):
            pruned = run_ours(plan, "pruned", TRIALS)
        unpruned = run_ours(plan, "unpruned", TRIALS, train=fit_unpruned)
        tutorial = run_tutorial(plan, TUTORIAL_TRIALS) * TRIALS / TUTORIAL_TRIALS
        os.chdir("/")
    return {
        "study_s": round(pruned, 2),
        "unpruned_s": round(unpruned, 2),
        "tutorial_s": round(tutorial, 1),
        "ratio": round(tutorial / pruned, 1),
        "unpruned_ratio": round(tutorial / unpruned, 1),
        "tracking_ms": round(1000 * tracking.seconds / TRIALS, 1),
    }


class Stopwatch:
    """CPU seconds spent in the functions that it times."""

    def __init__(self):
        self.seconds = 0.0

    def timed(self, function: Callable) -> Callable:
        """The function, with its time added to ``seconds`` at every call."""

        def call(*arguments, **options):
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.process_time() - start

        return call


def fit_unpruned(settings: Any, *data: Any, stop: Callable) -> list[Any]:
    """Train a batch as ``fit_many`` does, but let no trial be pruned."""
    return fit_many(settings, *data)


def run_ours(plan: Plan, name: str, trials: int, train: Callable[..., list[Any]] = fit_many) -> float:
    """CPU seconds of a study of ours: its trials with their runs, and its own run; not its winner's training."""
    start = time.process_time()
    study = open_study(plan, name, JOURNAL)
    with tracked_run(f"tune {name}", {"stage": "tune", "study": name}) as run_id:
        run_study(run_id, study, plan, JOURNAL, Limits(trials), say=lambda text: None, train=train)
        log_study(run_id, study, plan, JOURNAL)
    return time.process_time() - start


def run_tutorial(plan: Plan, trials: int) -> float:
    """CPU seconds of a study as a tutorial writes it."""
    data = load_data(plan.settings.data, plan.settings.seed)
    space = plan.distributions()

    def objective(trial: optuna.Trial) -> float:
        settings = plan.at(trial.params)
        model = build(settings.model_config())
        model.prepare.fit(data.x[data.split.train])
        y = targets(model, torch.tensor(data.rings))
        loaders = make_dataloaders(model.prepare(data.x), y, data.split, settings.batch_size)
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
            mlflow.log_params(trial.params)
            model.network, curves = train_model(model.network, loaders, settings)
            for name, values in curves.items():
                for epoch, value in enumerate(values, 1):
                    mlflow.log_metric(name, value, step=epoch)
            val = data.split.val
            final = scores(plan.task, data.rings[val], predict(model.eval(), data.x[val]))
            for name, value in final.items():
                mlflow.log_metric(f"{name}/val", value)
        return final["log_loss"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.process_time()
    with mlflow.start_run(run_name="tutorial"):
        study = optuna.create_study()
        for _ in range(trials):
            trial = study.ask(space)
            study.tell(trial, objective(trial))
    return time.process_time() - start


def figures() -> list[Figure]:
    """Measure, for the table of all benchmarks."""
    result = measure()
    name = f"a study of {TRIALS} trials of 50 epochs, tracked"
    tutorial = {
        "peer": f"the same study as a tutorial writes it ({TUTORIAL_TRIALS} trials run)",
        "theirs": f"{result['tutorial_s']:.1f} s",
    }
    return [
        Figure(
            what=name,
            ours=f"{result['study_s']:.1f} s",
            **tutorial,
            result=f"{times(result['ratio'])} times less CPU",
            aim=f"{TARGETS['ratio']:.0f}",
        ),
        Figure(
            what=f"{name}, without pruning",
            ours=f"{result['unpruned_s']:.1f} s",
            **tutorial,
            result=f"{times(result['unpruned_ratio'])} times less CPU",
        ),
        Figure(
            what="writing the run of a trial",
            ours=f"{result['tracking_ms']:.0f} ms",
            aim=f"at most {TARGETS['tracking_ms']:.0f} ms",
        ),
    ]


if __name__ == "__main__":
    show(figures())
