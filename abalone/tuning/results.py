"""TODO tuning.results"""

from __future__ import annotations

import math
import warnings
from collections import Counter

import optuna
import pandas as pd
from optuna.trial import FrozenTrial, TrialState

from abalone.tuning.plan import Plan
from abalone.tuning.storage import quiet

DONE = (TrialState.COMPLETE, TrialState.PRUNED)


def count_trials(study: optuna.Study, before: float = math.inf) -> int:
    """Trials (with a number below ``before``) that count: not those killed, nor those that wait to be tried again."""
    trials = study.get_trials(deepcopy=False)
    counts = (t.state in (*DONE, TrialState.RUNNING) or "error" in t.user_attrs for t in trials if t.number < before)
    return sum(counts)


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """The best of the complete trials, if there is one."""
    done = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return study.best_trial if done else None


def count_states(study: optuna.Study) -> dict[str, int]:
    """How many trials are ``complete``, ``pruned``, ``failed`` (diverged) and ``killed`` (and tried again)."""
    trials = study.get_trials(deepcopy=False)
    lost = [t for t in trials if t.state == TrialState.FAIL and "surplus" not in t.user_attrs]
    failed = Counter("error" in t.user_attrs for t in lost)
    count = Counter(t.state for t in trials)
    return {
        "complete": count[TrialState.COMPLETE],
        "pruned": count[TrialState.PRUNED],
        "failed": failed[True],
        "killed": failed[False],
    }


def trials_table(study: optuna.Study, plan: Plan) -> pd.DataFrame:
    """One row per trial: number, state, epochs, value, the point of the space as a stage's settings, run, reason."""
    rows = []
    for t in study.get_trials(deepcopy=False):
        if t.state == TrialState.WAITING or "surplus" in t.user_attrs:
            continue
        last = {TrialState.COMPLETE: plan.settings.epochs, TrialState.PRUNED: t.last_step}.get(t.state)
        about = {"trial": t.number, "state": t.state.name, "epochs": last, "value": t.value}
        about["is_base"] = t.params == plan.start()
        point = {name: plan.value(name, value) for name, value in t.params.items()}
        rows.append(
            {**about, **point, "run_id": t.user_attrs.get("run_id", ""), "reason": t.user_attrs.get("error", "")}
        )
    return pd.DataFrame(rows)


def setting_importances(study: optuna.Study) -> dict[str, float]:
    """Share of each searched key in how the values of the complete trials differ; empty if these are too few or alike.

    Source: Watanabe et al. (2023), PED-ANOVA.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    try:
        with quiet(), warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)  # Optuna's, that it knows nothing and calls all equal
            return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator())
    except (RuntimeError, ValueError, UserWarning):
        return {}
