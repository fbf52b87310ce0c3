"""The winner of a study: its settings, trained again by ``fit`` as a run like that of any stage.

The trial was trained by ``fit_many``, which takes the same steps but sums in a different order, so at a high learning
rate their results may differ (``docs/tuning.md``). The winner's page says by how much.
"""

from __future__ import annotations

import shlex

import optuna
from mlflow import MlflowClient
from mlflow.entities import Run
from optuna.trial import FrozenTrial

from abalone.settings import SELECTION, UserError
from abalone.stages.recorder import Result, Training
from abalone.stages.stage import run_stage
from abalone.tracking.addresses import link, run_path
from abalone.tracking.lookup import PARENT_TAG
from abalone.tracking.run_logging import add_note, log_tags
from abalone.tracking.runs import RunOptions, experiment_id_of
from abalone.tuning.pages import winner_note
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, value_of
from abalone.tuning.trial_runs import first_value


def train_winner(study: optuna.Study, plan: Plan) -> Result:
    """Train the best settings of a study as a run that can be promoted, nested in the active run, which is the study's.

    Parameters
    ----------
    study : optuna.Study
    plan : Plan

    Raises
    ------
    UserError
        If no trial is complete.
    """
    best = complete_trial(study)
    metric = SELECTION[plan.task]
    value_of_trial = value_of(best)
    loss_of_trial = first_value(best.user_attrs["run_id"], "loss/val")

    def compare_with_trial(training: Training) -> tuple[str, dict[str, str]]:
        value = training.metrics[f"val/{metric}"]
        apart = abs(training.curves["loss/val"][0] - loss_of_trial)
        note = winner_note(study.study_name, best.number, metric, value_of_trial, value, first_epochs_apart=apart)
        tags = {
            "study": study.study_name,
            "study.trial": str(best.number),
            "study.value": repr(value_of_trial),
            "study.apart": f"{abs(value - value_of_trial):.1e}",
        }
        return note, tags

    options = RunOptions(nested=True)
    return run_stage("tuned", plan.at(best.params), base=plan.base, options=options, remark=compare_with_trial)


def link_winner(run_id: str, winner: Result) -> None:
    """Name the winner in the run of its study: as a tag and on its page."""
    log_tags(run_id, {"winner.run_id": winner.run_id})
    address = run_path(experiment_id_of(run_id), winner.run_id)
    add_note(run_id, f"The winner's run: {link(winner.stage, address)}.")


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
    best = complete_trial(study)
    query = (
        f"tags.`{PARENT_TAG}` = '{run_id}' and tags.`study.trial` = '{best.number}' and attributes.status = 'FINISHED'"
    )
    found = MlflowClient().search_runs([experiment_id_of(run_id)], query, max_results=1)
    if not found:
        return None
    return _result_of(found[0], test_rows)


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
