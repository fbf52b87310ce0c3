"""TODO tuning.pages"""

from __future__ import annotations

from typing import Any

import pandas as pd

from abalone.settings import METRICS, SELECTION
from abalone.tracking.markdown import markdown_table
from abalone.tuning.plan import Plan
from abalone.tuning.results import best_trial, count_states


def outcome(study: Any, plan: Plan, name: str) -> str:
    """What a study has found, and how to go on with it."""
    best, metric = best_trial(study), SELECTION[plan.task]
    counts = ", ".join(f"{n} {state}" for state, n in count_states(study).items() if n)
    if best is None:
        return f"study {name}: no trial is complete ({counts or 'none begun'}); go on with -P study={name}"
    settings = ", ".join(f"{key} {format_setting(plan.value(key, value))}" for key, value in best.params.items())
    return (
        f"study {name}: best {metric}/val {best.value:.4f} {METRICS[metric].unit} in trial {best.number} ({settings}); "
        f"{counts}; more trials: -P study={name}"
    )


def format_setting(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def study_card(study: Any, plan: Plan, frame: pd.DataFrame, shares: dict[str, float]) -> str:
    """The description of a study's run: outcome, space, the ten best trials."""
    top = frame[frame["state"] == "COMPLETE"].sort_values("value").head(10)
    header = ["trial", f"{SELECTION[plan.task]}/val", *plan.space]
    rows = [
        [t["trial"], f"{t['value']:.4f}", *(format_setting(t[name]) for name in plan.space)] for _, t in top.iterrows()
    ]
    weights = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
    return "\n\n".join([
        outcome(study, plan, study.study_name),
        f"**Study `{study.study_name}`** of {plan.task}, begun at the settings of `{plan.base}`. "
        f"Trials see the validation rows only; the winner is trained again in the run `tuned {plan.base}` below, which "
        "is scored on the test rows once and can be promoted.",
        space_table(plan),
        markdown_table(header, rows),
        *([f"What the complete trials' score depends on (PED-ANOVA, shares of 1): {weights}."] if weights else []),
        "Pruned trials are KILLED here, and tagged `pruned`; diverged ones are FAILED, with the reason.",
    ])  # fmt: skip


def space_table(plan: Plan) -> str:
    start = plan.start()
    rows = [
        [name, ", ".join(f"{k} {v}" for k, v in allowed.items()), format_setting(plan.value(name, start[name]))]
        for name, allowed in plan.space.items()
    ]
    return markdown_table(["setting", "searched", plan.base], rows)
