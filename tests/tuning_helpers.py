"""What tests of studies share: a small plan, a study in the test's store with or without a winner, and its runs."""

from __future__ import annotations

from typing import Any

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run

from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.stages.recorder import Result
from abalone.tracking.runs import tracked_run
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.storage import open_study
from abalone.tuning.tune import Where, run_study, run_tune

JOURNAL = "studies.journal"  # of a study in the test's store
BATCH = 6
SMALL_BATCHES = f"""
from abalone.tuning import batches
batches.BATCH = {BATCH}
from abalone.cli.program import main
main()
"""  # what Python does for a command whose batches have fewer trials than they have otherwise


def make_plan(base: str = "encode", names=SEARCHED_BY_DEFAULT, **settings: Any) -> Plan:
    """A plan around a stage, with two epochs unless ``settings`` say otherwise; trials are pruned after the first."""
    overrides = {"epochs": 2, "device": "cpu", **settings}
    return Plan(base, load_settings(base, overrides), read_space(names))


def tune(
    plan: Plan | None = None, trials: int = 20, name: str = "s", storage: str = ""
) -> tuple[Result, optuna.Study, list[str]]:
    """Run a study in the test's store; return the winner's result, the study, and the lines of progress."""
    plan = plan or make_plan()
    said: list[str] = []
    result = run_tune(plan, Where(name, storage), Limits(trials), said.append)
    return result, open_study(plan, name, storage or JOURNAL), said


def run_trials(plan: Plan, trials: int, name: str = "s") -> optuna.Study:
    """Run the trials of a study in the test's store, and train no winner."""
    study = open_study(plan, name, JOURNAL)
    with tracked_run("tune", {"stage": "tune", "study": name}) as run_id:
        run_study(run_id, study, plan, JOURNAL, Limits(trials), print)
    return study


def search_runs(query: str = "", **options: Any) -> list[Run]:
    """Runs of the experiment ``abalone`` in the test's store; none if it was not created yet."""
    client = MlflowClient()
    experiment = client.get_experiment_by_name("abalone")
    if experiment is None:
        return []
    return client.search_runs([experiment.experiment_id], query, **options)


def trial_runs_by_status(study_name: str) -> dict[str, list[Run]]:
    """Runs of a study's trials, by MLflow status."""
    runs: dict[str, list[Run]] = {}
    for run in search_runs(f"tags.study = '{study_name}' and tags.stage = 'trial'"):
        runs.setdefault(run.info.status, []).append(run)
    return runs
