"""The winner of a study: its settings, trained again by ``fit`` as a run like that of any stage.

The trial was trained by ``fit_many``, which takes the same steps but sums in a different order, so at a high learning
rate their results may differ (``docs/tuning.md``). The winner's page says by how much.
"""

from __future__ import annotations

import shlex

import optuna

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
    best = best_trial(study)
    if best is None:
        raise UserError(
            f"no trial of study {study.study_name!r} is complete, so there is no winner to train; "
            f"continue it with more trials (-P study={shlex.quote(study.study_name)} -P trials=...)"
        )
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
        "study.value": repr(value_of_trial),
        "study.apart": f"{abs(value - value_of_trial):.1e}",
    }
    log_tags(result.run_id, tags)
    log_tags(run_id, {"winner.run_id": result.run_id})
    experiment_id = experiment_id_of(run_id)
    add_note(run_id, f"The winner's run: {link(result.stage, run_path(experiment_id, result.run_id))}.")
    return result
