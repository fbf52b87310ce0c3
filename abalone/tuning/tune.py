"""``tune`` as a tracked run: a study, its trials as nested runs, and its winner as a run like that of any stage."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.settings import METRICS, SELECTION, UserError
from abalone.stages.recorder import Result, to_toml
from abalone.stages.stage import run_stage
from abalone.tracking.database import beside_database, reach
from abalone.tracking.run_logging import Scores, add_note, log_batch, log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, tracked_run
from abalone.tracking.signals import defer_signals
from abalone.tuning.figures import optimisation_history, parallel_coordinates, parameter_importance, slices
from abalone.tuning.pages import format_setting, outcome, space_table, study_card
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, count_states, count_trials, setting_importances, trials_table
from abalone.tuning.search import BATCH, Limits, search
from abalone.tuning.storage import open_study, shown
from abalone.tuning.trial_runs import adopt_trials, first_value

BASES = {"classification": "encode", "regression": "regress"}
JOURNAL = "studies.journal"
AGREES = 1e-4


@dataclass(frozen=True)
class Where:
    """Name of a study and where Optuna keeps it; empty texts for a new name, and a journal beside the database."""

    study: str = ""
    storage: str = ""


def run_tune(
    plan: Plan, where: Where, limits: Limits, say: Callable[[str], None], options: RunOptions = RunOptions()
) -> Result:
    """Run a study, or go on with it, and train its winner again as a run that can be promoted.

    Parameters
    ----------
    plan : Plan
        What is studied.
    where : Where
    limits : Limits
        When the study ends.
    say : callable
        Takes a line of progress.
    options : RunOptions
        Where the run is filed.

    Raises
    ------
    UserError
        If the data, the storage or the study's name are no good, before anything is written.
    """
    rows = split(read(plan.settings.data), plan.settings.seed)
    reach()
    name = where.study or f"{plan.task}-{secrets.token_hex(3)}"
    storage = where.storage or str(beside_database(JOURNAL))
    study = open_study(plan, name, storage)
    say(f"study {name} in {shown(storage)}")
    settings = {key: plan.settings.as_text()[key] for key in ("seed", "epochs", "device", "data")}
    tags = {"stage": "tune", "study": name, "study.task": plan.task, "study.base": plan.base, "split": rows.fingerprint}
    with tracked_run(f"tune {plan.task}", tags, options) as run_id:
        log_params(run_id, {**asdict(limits), "base": plan.base, "search": ",".join(plan.space), **settings})
        adopt_trials(run_id, name)
        progress = Progress(plan, limits.trials, say, count_trials(study))
        try:
            search(study, plan, storage, run_id, limits, progress)
        finally:
            with defer_signals():
                progress.close()
                _log_report(run_id, study, plan, storage)
                say(outcome(study, plan, name))
        return _train_winner(run_id, study, plan)


class Progress:
    """A bar with the best value so far on a terminal, a line per batch elsewhere."""

    def __init__(self, plan: Plan, trials: int, say: Callable[[str], None], done: int = 0):
        from tqdm import tqdm  # of Optuna's own requirements

        self.plan, self.trials, self.say, self.known = plan, trials, say, 0
        self.bar = tqdm(total=trials, initial=done, unit="trial", leave=False) if sys.stderr.isatty() else None

    def __call__(self, study: Any) -> None:
        found = count_states(study)
        done = found["complete"] + found["pruned"] + found["failed"]
        if done == self.known or (self.bar is None and done < min(self.known + BATCH, self.trials)):
            return
        self.known, best = done, best_trial(study)
        text = (
            f"best {SELECTION[self.plan.task]}/val {best.value:.4f} (trial {best.number})" if best else "none complete"
        )
        if self.bar is None:
            self.say(f"{done} of {self.trials} trials, {found['pruned']} of them pruned; {text}")
        else:
            self.bar.n = done
            self.bar.set_postfix_str(text)

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()


def _log_report(run_id: str, study: Any, plan: Plan, storage: str) -> None:
    """Write what the study has found so far to its run."""
    frame, best = trials_table(study, plan), best_trial(study)
    counts = {f"trials/{state}": number for state, number in count_states(study).items()}
    texts = {"space.md": space_table(plan), "base.toml": f"# {plan.base}\n{to_toml(plan.settings)}"}
    tables = {"trials.json": frame} if len(frame) else {}
    if best is None:
        tags = log_files(run_id, texts=texts, figures={}, tables=tables)
        tags["mlflow.note.content"] = outcome(study, plan, study.study_name)
        log_batch(run_id, final=[Scores(counts)], tags=tags)
        return
    shares = setting_importances(study)
    figures = _draw_figures(frame[np.isfinite(frame["value"].astype(float))], plan, shares)
    tags = log_files(run_id, texts=texts, figures=figures, tables=tables)
    tags |= {f"best.{name}": format_setting(plan.value(name, value)) for name, value in best.params.items()}
    tags |= {"best.trial": str(best.number), "best.run_id": best.user_attrs["run_id"], "storage": shown(storage)}
    tags["mlflow.note.content"] = study_card(study, plan, frame, shares)
    log_batch(run_id, final=[Scores({**counts, "best_value": best.value})], tags=tags)


def _draw_figures(frame: pd.DataFrame, plan: Plan, shares: dict[str, float]) -> dict[str, Any]:
    metric, values, complete = SELECTION[plan.task], frame["value"].to_numpy(float), frame["state"] == "COMPLETE"
    base, done = frame.loc[frame["is_base"], "value"].min(), frame[complete]  # NaN if it was killed and not tried again
    points = {name: frame[name].to_numpy() for name in plan.space}
    figures = {
        "history.png": optimisation_history(
            frame["trial"].to_numpy(), values, complete, base, metric, METRICS[metric].unit
        ),
        "slices.png": slices(points, values, complete, metric),
    }
    if len(points) > 1:
        lines = {name: done[name].to_numpy() for name in points}
        figures["parallel_coordinates.png"] = parallel_coordinates(lines, done["value"].to_numpy(float), metric)
    return figures | ({"importance.png": parameter_importance(shares)} if shares else {})


def _train_winner(run_id: str, study: Any, plan: Plan) -> Result:
    """Train the best settings through ``fit``, and hold the value against the study's."""
    best, metric = best_trial(study), SELECTION[plan.task]
    if best is None:
        raise UserError(f"no trial of study {study.study_name!r} is complete, so there is no winner to train")
    result = run_stage("tuned", plan.at(best.params), base=plan.base, options=RunOptions(nested=True))
    again, runs = result.metrics[f"{metric}/val"], (result.run_id, best.user_attrs["run_id"])
    apart, first = abs(again - best.value), abs(np.subtract(*(first_value(r, "loss/val") for r in runs)))
    text = (
        f"Winner of study `{study.study_name}`, trial {best.number}. The study reported {metric}/val {best.value:.6f}, "
        f"this training gives {again:.6f}, {apart:.1e} apart. "
    )
    if np.isnan(first):
        text += "The run of its trial is gone, so their first epochs cannot be held against each other."
    elif apart > AGREES and first > AGREES:
        text += f"They are {first:.1e} apart after the first epoch already: more than rounding explains."
    elif apart > AGREES:
        text += (
            f"Why they differ: both take the same steps, but add up in another order; after the first epoch they were "
            f"{first:.1e} apart, and float32 rounding grows with every step at such a learning rate. (In float64 the "
            "two agree within 1e-10; a test holds that.)"
        )
    add_note(result.run_id, text)
    log_tags(result.run_id, {"study": study.study_name, "study.value": repr(best.value), "study.apart": f"{apart:.1e}"})
    log_tags(run_id, {"winner.run_id": result.run_id})
    return result
