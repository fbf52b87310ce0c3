"""The winner of a study: its settings, trained again by ``fit`` as a run like that of any stage.

The trial was trained by ``fit_many``, which takes the same steps but sums in a different order, so at a high learning
rate their results may differ (``docs/tuning.md``). The winner's page says by how much.
"""

from __future__ import annotations

import shlex

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial

from abalone.settings import SELECTION, UserError
from abalone.stages.recorder import Result
from abalone.stages.stage import run_stage
from abalone.tracking.addresses import link, run_path
from abalone.tracking.run_logging import add_note, log_tags
from abalone.tracking.runs import RunOptions, experiment_id_of
from abalone.tuning.pages import winner_note
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, value_of
from abalone.tuning.trial_runs import first_value


def train_winner(run_id: str, study: optuna.Study, plan: Plan) -> Result:
    """Train the best settings of a study as a nested run that can be promoted.

    Parameters
    ----------
    run_id : str
        Id of the study's run, which must be active.
    study : optuna.Study
    plan : Plan

    Raises
    ------
    UserError
        If no trial is complete.
    """
    best = complete_trial(study)
    result = run_stage("tuned", plan.at(best.params), base=plan.base, options=RunOptions(nested=True))
    metric = SELECTION[plan.task]
    value = result.metrics[f"val/{metric}"]
    value_of_trial = value_of(best)
    loss_of_winner = first_value(result.run_id, "loss/val")
    loss_of_trial = first_value(best.user_attrs["run_id"], "loss/val")
    apart = abs(loss_of_winner - loss_of_trial)
    note = winner_note(study.study_name, best.number, metric, value_of_trial, value, first_epochs_apart=apart)
    add_note(result.run_id, note)
    tags = {
        "study": study.study_name,
        "study.trial": str(best.number),
        "study.value": repr(value_of_trial),
        "study.apart": f"{abs(value - value_of_trial):.1e}",
    }
    log_tags(result.run_id, tags)
    log_tags(run_id, {"winner.run_id": result.run_id})
    experiment_id = experiment_id_of(run_id)
    add_note(run_id, f"The winner's run: {link(result.stage, run_path(experiment_id, result.run_id))}.")
    return result


def find_winner(run_id: str, study: optuna.Study, test_rows: int) -> Result | None:
    """The winner that has been trained for a study as it stands; None if there is none.

    Parameters
    ----------
    run_id : str
        Id of the study's run.
    study : optuna.Study
    test_rows : int
        Number of test rows of the study's split.
    """
    client = MlflowClient()
    winner = client.get_run(run_id).data.tags.get("winner.run_id")
    if winner is None:
        return None
    try:
        run = client.get_run(winner)
    except MlflowException:  # it was deleted for good
        return None
    best = complete_trial(study)
    is_current = run.data.tags.get("study.trial") == str(best.number) and run.info.lifecycle_stage == "active"
    if not is_current or run.info.status != "FINISHED":
        return None
    return _result_of(run, test_rows)


def complete_trial(study: optuna.Study) -> FrozenTrial:
    """The best trial of a study.

    Raises
    ------
    UserError
        If no trial is complete.
    """
    best = best_trial(study)
    if best is None:
        raise UserError(
            f"no trial of study {study.study_name!r} is complete, so there is no winner to train; "
            f"continue it with more trials (-P study={shlex.quote(study.study_name)} -P trials=...)"
        )
    return best


def _result_of(run: Run, test_rows: int) -> Result:
    """What ``run_stage`` returned to the process that trained the winner, but for the curves."""
    metrics = {}
    for name, value in run.data.metrics.items():
        if name.startswith(("val/", "test/", "baseline/")) or name.endswith("_epoch"):
            metrics[name] = value
    return Result(
        stage=run.info.run_name,
        task=run.data.tags["task"],
        seconds=(run.info.end_time - run.info.start_time) / 1000,
        metrics=metrics,
        run_id=run.info.run_id,
        test_rows=test_rows,
    )
