"""``tune`` as a tracked run: a study, its trials as nested runs, and its winner as a run like that of any stage."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from abalone import plots, tracking, trial_runs, tuning
from abalone.cards import TABLE_HEADER, markdown_table, stage_rows
from abalone.config import UserError
from abalone.dataset import read, split
from abalone.evaluation import SELECTION
from abalone.signals import signals_held
from abalone.stages import Result, run_stage, to_toml
from abalone.studies import Plan, open_study, shown

BASES = {"classification": "encode", "regression": "regress"}
JOURNAL = "studies.journal"
UNITS = {"log_loss": "nats", "rmse": "rings"}
AGREES = 1e-4


@dataclass(frozen=True)
class Where:
    """Name of a study and where Optuna keeps it; empty texts for a new name, and a journal beside the database."""

    study: str = ""
    storage: str = ""


def run_tune(plan: Plan, where: Where, limits: tuning.Limits, say: Callable[[str], None], **run_options: Any) -> Result:
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
    **run_options
        ``experiment_name``, ``run_name``, ``nested``, as ``tracking.run`` takes them.

    Raises
    ------
    UserError
        If the data, the storage or the study's name are no good, before anything is written.
    """
    rows = split(read(plan.experiment.data), plan.experiment.seed)
    trial_runs.reach()
    name = where.study or f"{plan.task}-{secrets.token_hex(3)}"
    storage = where.storage or str(trial_runs.beside_database(JOURNAL))
    study = open_study(plan, name, storage)
    say(f"study {name} in {shown(storage)}")
    settings = {key: plan.experiment.as_text()[key] for key in ("seed", "epochs", "device", "data")}
    tags = {"stage": "tune", "study": name, "study.task": plan.task, "study.base": plan.base, "split": rows.fingerprint}
    with tracking.run(f"tune {plan.task}", tags, **run_options) as run_id:
        tracking.log_params(run_id, {**asdict(limits), "base": plan.base, "search": ",".join(plan.space), **settings})
        trial_runs.adopt_trials(run_id, name)
        progress = Progress(plan, limits.trials, say, tuning.counted(study))
        try:
            tuning.search(study, plan, storage, run_id, limits, progress)
        finally:
            with signals_held():
                progress.close()
                _report(run_id, study, plan, storage)
                say(outcome(study, plan, name))
        return _train_winner(run_id, study, plan)


def run_single(plan: Plan, where: Where, limits: tuning.Limits, say: Callable[[str], None], **run_options: Any) -> None:
    """Run a study by itself, and say how its winner came out and where to look."""
    result = run_tune(plan, where, limits, say, **run_options)
    say(f"\n{markdown_table(TABLE_HEADER, stage_rows([result]))}\n\n{tracking.how_to_browse(result.run_id)}")


class Progress:
    """A bar with the best value so far on a terminal, a line per batch elsewhere."""

    def __init__(self, plan: Plan, trials: int, say: Callable[[str], None], done: int = 0):
        from tqdm import tqdm  # of Optuna's own requirements

        self.plan, self.trials, self.say, self.known = plan, trials, say, 0
        self.bar = tqdm(total=trials, initial=done, unit="trial", leave=False) if sys.stderr.isatty() else None

    def __call__(self, study: Any) -> None:
        found = tuning.states(study)
        done = found["complete"] + found["pruned"] + found["failed"]
        if done == self.known or (self.bar is None and done < min(self.known + tuning.BATCH, self.trials)):
            return
        self.known, best = done, tuning.best(study)
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


def outcome(study: Any, plan: Plan, name: str) -> str:
    """What a study has found, and how to go on with it."""
    best, metric = tuning.best(study), SELECTION[plan.task]
    counts = ", ".join(f"{n} {state}" for state, n in tuning.states(study).items() if n)
    if best is None:
        return f"study {name}: no trial is complete ({counts or 'none begun'}); go on with -P study={name}"
    settings = ", ".join(f"{key} {_number(plan.value(key, value))}" for key, value in best.params.items())
    return (
        f"study {name}: best {metric}/val {best.value:.4f} {UNITS[metric]} in trial {best.number} ({settings}); "
        f"{counts}; more trials: -P study={name}"
    )


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _report(run_id: str, study: Any, plan: Plan, storage: str) -> None:
    """Write what the study has found so far to its run."""
    frame, best = tuning.table(study, plan), tuning.best(study)
    counts = {f"trials/{state}": number for state, number in tuning.states(study).items()}
    texts = {"space.md": _space_table(plan), "base.toml": f"# {plan.base}\n{to_toml(plan.experiment)}"}
    tables = {"trials.json": frame} if len(frame) else {}
    if best is None:
        tags = tracking.log_files(run_id, texts=texts, figures={}, tables=tables)
        tags["mlflow.note.content"] = outcome(study, plan, study.study_name)
        tracking.log_batch(run_id, final=counts, tags=tags)
        return
    shares = tuning.importances(study)
    figures = _figures(frame[np.isfinite(frame["value"].astype(float))], plan, shares)
    tags = tracking.log_files(run_id, texts=texts, figures=figures, tables=tables)
    tags |= {f"best.{name}": _number(plan.value(name, value)) for name, value in best.params.items()}
    tags |= {"best.trial": str(best.number), "best.run_id": best.user_attrs["run_id"], "storage": shown(storage)}
    tags["mlflow.note.content"] = _card(study, plan, frame, shares)
    tracking.log_batch(run_id, final={**counts, "best_value": best.value}, tags=tags)


def _figures(frame: pd.DataFrame, plan: Plan, shares: dict[str, float]) -> dict[str, Any]:
    metric, values, complete = SELECTION[plan.task], frame["value"].to_numpy(float), frame["state"] == "COMPLETE"
    base, done = frame.loc[frame["is_base"], "value"].min(), frame[complete]  # NaN if it was killed and not tried again
    points = {name: frame[name].to_numpy() for name in plan.space}
    figures = {
        "history.png": plots.optimisation_history(
            frame["trial"].to_numpy(), values, complete, base, metric, UNITS[metric]
        ),
        "slices.png": plots.slices(points, values, complete, metric),
    }
    if len(points) > 1:
        lines = {name: done[name].to_numpy() for name in points}
        figures["parallel_coordinates.png"] = plots.parallel_coordinates(lines, done["value"].to_numpy(float), metric)
    return figures | ({"importance.png": plots.parameter_importance(shares)} if shares else {})


def _card(study: Any, plan: Plan, frame: pd.DataFrame, shares: dict[str, float]) -> str:
    """The description of a study's run: outcome, space, the ten best trials."""
    top = frame[frame["state"] == "COMPLETE"].sort_values("value").head(10)
    header = ["trial", f"{SELECTION[plan.task]}/val", *plan.space]
    rows = [[t["trial"], f"{t['value']:.4f}", *(_number(t[name]) for name in plan.space)] for _, t in top.iterrows()]
    weights = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return "\n\n".join([
        outcome(study, plan, study.study_name),
        f"**Study `{study.study_name}`** of {plan.task}, begun at the settings of `{plan.base}`. "
        f"Trials see the validation rows only; the winner is trained again in the run `tuned {plan.base}` below, which "
        "is scored on the test rows once and can be promoted.",
        _space_table(plan),
        markdown_table(header, rows),
        *([f"What the complete trials' score depends on (PED-ANOVA, shares of 1): {weights}."] if weights else []),
        "Pruned trials are KILLED here, and tagged `pruned`; diverged ones are FAILED, with the reason.",
    ])  # fmt: skip


def _space_table(plan: Plan) -> str:
    start = plan.start()
    rows = [
        [name, ", ".join(f"{k} {v}" for k, v in allowed.items()), _number(plan.value(name, start[name]))]
        for name, allowed in plan.space.items()
    ]
    return markdown_table(["setting", "searched", plan.base], rows)


def _train_winner(run_id: str, study: Any, plan: Plan) -> Result:
    """Train the best settings through ``fit``, and hold the value against the study's."""
    best, metric = tuning.best(study), SELECTION[plan.task]
    if best is None:
        raise UserError(f"no trial of study {study.study_name!r} is complete, so there is no winner to train")
    result = run_stage("tuned", plan.at(best.params), base=plan.base, nested=True)
    again, runs = result.metrics[f"{metric}/val"], (result.run_id, best.user_attrs["run_id"])
    apart, first = abs(again - best.value), abs(np.subtract(*(trial_runs.first_value(r, "loss/val") for r in runs)))
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
    tracking.add_note(result.run_id, text)
    tracking.log_tags(
        result.run_id, {"study": study.study_name, "study.value": repr(best.value), "study.apart": f"{apart:.1e}"}
    )
    tracking.log_tags(run_id, {"winner.run_id": result.run_id})
    return result
