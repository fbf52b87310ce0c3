"""Markdown on the pages of a study and its winner, and the line that sums a study up."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

import optuna
import pandas as pd

from abalone.metrics import METRICS
from abalone.settings import SELECTION
from abalone.tracking.addresses import link, run_path, runs_path
from abalone.tracking.markdown import as_code, markdown_table
from abalone.tracking.views import TRIALS_VIEW
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, count_states

BEST_SHOWN = 10  # trials
SAME_VALUE = 1e-4  # a difference of validation metrics that needs no explanation


def outcome(study: optuna.Study, plan: Plan) -> str:
    """What a study has found, and how to continue it, in one line."""
    name = study.study_name
    counts = ", ".join(f"{number} {state}" for state, number in count_states(study).items() if number)
    option = f"-P study={shlex.quote(name)}"
    best = best_trial(study)
    if best is None:
        return f"study {name}: no trial is complete ({counts or 'none started'}); continue with {option}"
    metric = SELECTION[plan.task]
    settings = ", ".join(f"{key} {format_setting(plan.value(key, value))}" for key, value in best.params.items())
    return (
        f"study {name}: best val/{metric} {best.value:.4f} {METRICS[metric].unit} in trial {best.number} ({settings}); "
        f"{counts}; more trials: {option}"
    )


def format_setting(value: Any) -> str:
    """A setting with four digits if it is a float."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def study_page(
    study: optuna.Study, plan: Plan, experiment_id: str, frame: pd.DataFrame, importances: Mapping[str, float]
) -> str:
    """The description of a study's run: what it found, space, best trials, importances.

    Parameters
    ----------
    study : optuna.Study
    plan : Plan
    experiment_id : str
        Experiment of the run, for links.
    frame : DataFrame
        As ``trials_table`` returns it.
    importances : mapping
        As ``setting_importances`` returns it.
    """
    paragraphs = [
        _answer(study, plan, experiment_id, frame),
        f"{outcome(study, plan)}.",
        f"**Study {as_code(study.study_name)}** of {plan.task}, starting from the settings of `{plan.base}`. "
        "Trials see the training and validation rows only. The winner is trained again in the run "
        f"`tuned {plan.base}` below; it alone is scored on the test rows, once, and it can be promoted.",
        space_table(plan),
        _best_trials_table(plan, experiment_id, frame),
    ]
    if importances:
        shares = ", ".join(f"{name} {share:.2f}" for name, share in importances.items())
        paragraphs.append(f"Importance of each setting for the value of the complete trials (PED-ANOVA): {shares}.")
    paragraphs.append(
        "A pruned trial's run is KILLED, with the tag `pruned`; a diverged one's is FAILED, with the tag `error`."
    )
    return "\n\n".join(paragraphs)


def _answer(study: optuna.Study, plan: Plan, experiment_id: str, frame: pd.DataFrame) -> str:
    """How far the best trial is ahead of the base stage, and where to look."""
    metric = SELECTION[plan.task]
    best = study.best_trial
    trial = link(f"trial {best.number}", run_path(experiment_id, best.user_attrs["run_id"]))
    base = frame.loc[frame["is_base"] & (frame["state"] == "COMPLETE"), "value"].min()
    text = f"**Best: {trial}**, {METRICS[metric].label} {best.value:.4f} {METRICS[metric].unit} on validation"
    if not math.isnan(base):
        text += f"; the settings of `{plan.base}` give {base:.4f}"
    trials = link("all trials", runs_path(experiment_id, TRIALS_VIEW))
    return f"{text}. Look at {trials}, and at `history.png` and `slices.png` in *Artifacts*."


def space_table(plan: Plan) -> str:
    """The searched settings with their ranges and their values in the base stage."""
    start = plan.start()
    rows = []
    for name, allowed in plan.space.items():
        searched = ", ".join(f"{key} {value}" for key, value in allowed.items())
        rows.append([name, searched, format_setting(plan.value(name, start[name]))])
    return markdown_table(["setting", "searched", plan.base], rows)


def winner_note(
    study_name: str, number: int, metric: str, in_study: float, in_winner: float, first_epochs_apart: float
) -> str:
    """How a winner's training compares with its trial, for the winner's page.

    Parameters
    ----------
    study_name : str
    number : int
        Number of the trial.
    metric : str
        Name of the metric that selects.
    in_study, in_winner : float
        Its value on validation in the trial and in the winner's own training.
    first_epochs_apart : float
        Difference of their validation losses after the first epoch; NaN if the trial's run was deleted.
    """
    apart = abs(in_winner - in_study)
    text = (
        f"Winner of study {as_code(study_name)}, trial {number}. The study reported val/{metric} {in_study:.6f}, this "
        f"training {in_winner:.6f}: a difference of {apart:.1e}."
    )
    if math.isnan(first_epochs_apart):
        return text + " The run of the trial was deleted, so their first epochs cannot be compared."
    if apart <= SAME_VALUE:
        return text
    if first_epochs_apart > SAME_VALUE:
        return text + (
            f" After the first epoch they already differ by {first_epochs_apart:.1e}, which is more than rounding "
            "explains."
        )
    return text + (
        " Why they differ: both take the same steps, but sum in a different order. After the first epoch they differ "
        f"by {first_epochs_apart:.1e}, and at such a learning rate float32 rounding errors grow with every step. (In "
        "float64 the two agree within 1e-10; a test checks this.)"
    )


def _best_trials_table(plan: Plan, experiment_id: str, frame: pd.DataFrame) -> str:
    complete = frame[frame["state"] == "COMPLETE"]
    rows = []
    for _, trial in complete.sort_values("value").head(BEST_SHOWN).iterrows():
        settings = [format_setting(trial[name]) for name in plan.space]
        number = link(str(trial["trial"]), run_path(experiment_id, trial["run_id"]))
        rows.append([number, f"{trial['value']:.4f}", *settings])
    return markdown_table(["trial", f"val/{SELECTION[plan.task]}", *plan.space], rows)
