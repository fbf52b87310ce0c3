"""CPU of a study, tracked, against the same study as tutorials write it: one trial, one run, one metric at a time.

Run ``python -m benchmarks.bench_tuning``: a table, then the same as JSON. The tutorial prunes nothing, so the study is
measured with and without pruning. A few of the tutorial's trials are run, and taken for what each costs on average.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from unittest import mock

import mlflow
import optuna
import torch

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.scores import predict, scores
from abalone.model.features import encode
from abalone.model.networks import build
from abalone.settings import load_settings
from abalone.tracking.database import prepare_database
from abalone.training.beginning import targets
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.trial_runs import close_trial, open_trials
from abalone.tuning.tune import Where, run_tune
from benchmarks.guide_loop import make_dataloaders, train_model

TRIALS, TUTORIAL_TRIALS = 48, 6
TARGETS = {"study_s": 8.0, "ratio": 10.0, "tracking_ms": 40.0}


def measure() -> dict[str, float]:
    """Run the studies in turn, in one process that has imported and opened everything.

    Returns
    -------
    dict
        ``study_s``, CPU seconds of 48 trials of 50 epochs, trial runs and report included; ``unpruned_s``;
        ``tutorial_s``, what 48 of the tutorial's trials cost; the ratios to it; ``tracking_ms``, of that of a trial.
    """
    torch.set_num_threads(1)
    base = load_settings("encode", {"device": "cpu"})
    plan = Plan("encode", base, read_space(["learning_rate", "gamma", "depth", "weight_decay"]))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        prepare_database()
        mlflow.set_experiment("abalone")
        study(plan, "warm", trials=16)
        tracked = Stopwatch()
        with mock.patch.multiple(trial_runs, open_trials=tracked(open_trials), close_trial=tracked(close_trial)):
            pruned = study(plan, "pruned", TRIALS)
        with mock.patch.object(tuning, "RUNGS", ()):
            unpruned = study(plan, "unpruned", TRIALS)
        tutorial = as_a_tutorial(plan) * TRIALS / TUTORIAL_TRIALS
        os.chdir("/")
    return {
        "study_s": round(pruned, 2),
        "unpruned_s": round(unpruned, 2),
        "tutorial_s": round(tutorial, 1),
        "ratio": round(tutorial / pruned, 1),
        "unpruned_ratio": round(tutorial / unpruned, 1),
        "tracking_ms": round(1000 * tracked.seconds / TRIALS, 1),
    }


class Stopwatch:
    """CPU seconds spent in the functions that it was put around."""

    seconds = 0.0

    def __call__(self, function):
        def timed(*arguments, **options):
            start = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds += time.process_time() - start

        return timed


def study(plan: Plan, name: str, trials: int) -> float:
    """CPU seconds of a study of ours, its report included, its winner's training not."""
    start = time.process_time()
    with mock.patch.object(tune_stage, "_train_winner"):
        run_tune(plan, Where(name), Limits(trials), lambda text: None)
    return time.process_time() - start


def as_a_tutorial(plan: Plan) -> float:
    """CPU seconds of the tutorial's few trials."""
    dataset = read()
    x, rings, rows = encode(dataset.frame), dataset.frame["Rings"].to_numpy(), split(dataset, plan.experiment.seed)

    def objective(trial: optuna.Trial) -> float:
        space = plan.distributions()
        experiment = plan.at({name: trial._suggest(name, allowed) for name, allowed in space.items()})
        model = build(experiment.model_config())
        model.prepare.fit(x[rows.train])
        loaders = make_dataloaders(model.prepare(x), targets(model, torch.tensor(rings)), rows, experiment.batch_size)
        with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
            mlflow.log_params(trial.params)
            model.network, curves = train_model(model.network, loaders, experiment)
            for name, values in curves.items():
                for epoch, value in enumerate(values, 1):
                    mlflow.log_metric(name, value, step=epoch)
            final = scores(plan.task, rings[rows.val], predict(model.eval(), x[rows.val]))
            for name, value in final.items():
                mlflow.log_metric(f"{name}/val", value)
        return final["log_loss"]

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = time.process_time()
    with mlflow.start_run(run_name="tutorial"):
        optuna.create_study().optimize(objective, n_trials=TUTORIAL_TRIALS)
    return time.process_time() - start


def main() -> None:
    """Print the table and the JSON."""
    result = measure()
    print(f"{TRIALS} trials of 50 epochs, tracked: CPU seconds beyond imports")
    print(f"  study              {result['study_s']:>7.2f}   at most {TARGETS['study_s']}")
    print(f"  without pruning    {result['unpruned_s']:>7.2f}")
    print(f"  as a tutorial      {result['tutorial_s']:>7.1f}   ({TUTORIAL_TRIALS} trials run)")
    print(f"  ratio              {result['ratio']:>7.1f}   at least {TARGETS['ratio']}")
    print(f"  without pruning    {result['unpruned_ratio']:>7.1f}")
    print(f"  tracking per trial {result['tracking_ms']:>7.1f}   ms, at most {TARGETS['tracking_ms']}")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
