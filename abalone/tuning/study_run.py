"""What the MLflow run of a study itself holds: counts, figures, tables and its page."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric
from optuna.trial import FrozenTrial, TrialState

from abalone.metrics import METRICS
from abalone.settings import SELECTION
from abalone.stages.recorder import to_toml
from abalone.tracking.run_logging import DESCRIPTION_TAG, Scores, log_batch, log_files
from abalone.tracking.runs import experiment_id_of
from abalone.tuning.figures import optimisation_history, parallel_coordinates, parameter_importance, slices
from abalone.tuning.pages import format_setting, outcome, space_table, study_page
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, count_states, setting_importances, trials_table
from abalone.tuning.storage import hide_password

BEST_SO_FAR = "best_so_far"  # metric by trial number, in the unit of the metric that selects


def log_study(run_id: str, study: optuna.Study, plan: Plan, storage: str) -> None:
    """Log what a study has found so far to its run.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    study : optuna.Study
    plan : Plan
    storage : str
        Where the study is kept.
    """
    frame = trials_table(study, plan)
    best = best_trial(study)
    metrics = {f"trials/{state}": number for state, number in count_states(study).items()}
    if best is None:
        figures = {}
        found = {}
        page = outcome(study, plan)
    else:
        metrics["best_value"] = best.value
        importances = setting_importances(study)
        figures = _draw_figures(frame, plan, importances)
        found = _best_tags(best, plan) | {"storage": _public_storage(storage)}
        page = study_page(study, plan, experiment_id_of(run_id), frame, importances)
    texts = {"space.md": space_table(plan), "base.toml": f"# {plan.base}\n{to_toml(plan.settings)}"}
    tables = {"trials.json": frame} if len(frame) else {}
    tags = log_files(run_id, texts=texts, figures=figures, tables=tables)
    tags |= found
    tags[DESCRIPTION_TAG] = page
    log_batch(run_id, final=[Scores(metrics)], tags=tags)


def log_best_so_far(run_id: str, study: optuna.Study, numbers: Sequence[int]) -> None:
    """Continue the chart of the best value so far, one point per trial.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    study : optuna.Study
    numbers : sequence of int
        Numbers of the trials that have just ended.
    """
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    now = int(time.time() * 1000)
    points = []
    for number in numbers:
        values = [trial.value for trial in complete if trial.number <= number]
        if values:
            points.append(Metric(BEST_SO_FAR, min(values), now, number))
    MlflowClient().log_batch(run_id, metrics=points)


def _public_storage(storage: str) -> str:
    """A storage for a tag: a URL without its password, or the name of a journal file without its folder."""
    if "://" in storage:
        return hide_password(storage)
    return Path(storage).name


def _best_tags(best: FrozenTrial, plan: Plan) -> dict[str, str]:
    tags = {"best.trial": str(best.number), "best.run_id": best.user_attrs["run_id"]}
    for name, value in best.params.items():
        tags[f"best.{name}"] = format_setting(plan.value(name, value))
    return tags


def _draw_figures(frame: pd.DataFrame, plan: Plan, importances: Mapping[str, float]) -> dict[str, Any]:
    """Figures of the trials that have a value, by file name."""
    frame = frame[np.isfinite(frame["value"].astype(float))]
    metric = SELECTION[plan.task]
    values = frame["value"].to_numpy(float)
    complete = frame["state"] == "COMPLETE"
    base = frame.loc[frame["is_base"], "value"].min()  # NaN if the base was killed and not tried again
    numbers = frame["trial"].to_numpy()
    points = {name: frame[name].to_numpy() for name in plan.space}
    figures = {
        "history.png": optimisation_history(numbers, values, complete, base, metric, METRICS[metric].unit),
        "slices.png": slices(points, values, complete, metric),
    }
    if len(points) > 1:
        done = frame[complete]
        lines = {name: done[name].to_numpy() for name in points}
        figures["parallel_coordinates.png"] = parallel_coordinates(lines, done["value"].to_numpy(float), metric)
    if importances:
        figures["importance.png"] = parameter_importance(importances)
    return figures
