"""Which run should be champion, and why: candidates, gate, and the comparison with today's champion. Writes nothing.

Fit for promotion are the finished runs of one experiment with a model and a score better than the baseline by
``MARGIN``. **Today's split** is that of the newest of them; only runs on the same rows are eligible, ranked by
``evaluation.SELECTION`` on validation. The best must be better than the champion on the same rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient

from abalone.registry.versions import all_pages, rolled_back
from abalone.settings import ANSWER_COLUMNS, SELECTION

MARGIN = 0.05


@dataclass(frozen=True)
class Candidate:
    """A run of a task, its model, its scores in the selection metric, and why it cannot be promoted, if so."""

    run_id: str
    name: str
    status: str
    started: int
    dataset: str
    split: str
    model_id: str
    score: float | None
    baseline: float | None
    test: float | None
    refusal: str = ""


def find_candidates(task: str, experiment_id: str) -> list[Candidate]:
    """Every run of the task, whatever its state."""
    client, metric = MlflowClient(), SELECTION[task]
    models = {
        model.source_run_id: model.model_id
        for model in all_pages(client.search_logged_models, [experiment_id], f"params.task = '{task}'")
        if str(model.status) == "READY"
    }
    found = []
    for run in all_pages(client.search_runs, [experiment_id], f"tags.task LIKE '%{task}%'"):
        tags, metrics, info = run.data.tags, run.data.metrics, run.info
        found.append(
            Candidate(
                *(info.run_id, info.run_name, info.status, info.start_time),
                *(tags.get("dataset", ""), tags.get("split", ""), models.get(info.run_id, "")),
                *(metrics.get(f"{prefix}{metric}/{part}") for prefix, part in (("", "val"), ("baseline_", "val"))),
                metrics.get(f"{metric}/test"),
            )
        )
    return found


def judge_candidates(task: str, candidates: Sequence[Candidate], versions: Sequence[Any]) -> tuple[Candidate, ...]:
    """Candidates with the reason of each refusal: the eligible first, the best of them at the head."""
    metric = SELECTION[task]
    judged = [replace(c, refusal=_unfit(c, metric)) for c in candidates]
    newest = max((c for c in judged if not c.refusal), key=lambda c: c.started, default=None)
    given_up = rolled_back(versions)

    def refusal(c: Candidate) -> str:
        if c.refusal:
            return c.refusal
        if (c.dataset, c.split) != (newest.dataset, newest.split):
            return f"other rows (split {c.split}) than those of today ({newest.split}, run {newest.name})"
        if version := given_up.get((c.split, repr(c.score))):
            return f"same score as version {version}, which was rolled back"
        return ""

    judged = [replace(c, refusal=refusal(c)) for c in judged]
    judged.sort(key=lambda c: (bool(c.refusal), c.score if _is_finite(c.score) else math.inf, c.started, c.run_id))
    for i, candidate in enumerate(judged):  # from the best down, until one is whole
        problem = candidate.refusal or _broken(task, candidate)
        if not problem:
            break
        judged[i] = replace(candidate, refusal=problem)
    return tuple(sorted(judged, key=lambda c: bool(c.refusal)))


def _unfit(candidate: Candidate, metric: str) -> str:
    if candidate.status != "FINISHED":
        return f"status {candidate.status}"
    if not candidate.model_id:
        return "no model"
    if not _is_finite(candidate.score):
        return f"no {metric}/val" if candidate.score is None else f"{metric}/val is not finite"
    if not candidate.dataset or not candidate.split:
        return "no fingerprint of data and split"
    if candidate.baseline is None or not candidate.score <= (1 - MARGIN) * candidate.baseline:
        return f"not {MARGIN:.0%} better than the baseline"
    return ""


def _is_finite(score: float | None) -> bool:
    return score is not None and abs(score) < sys.float_info.max  # which MLflow's database holds for infinity


def _broken(task: str, candidate: Candidate) -> str:
    """What keeps a candidate from being used, found by using it."""
    try:
        rows = validation_rows(candidate.run_id)
        score_rows(task, f"models:/{candidate.model_id}", rows.head())
    except Exception as error:  # whatever a lost or damaged file makes of itself
        return f"cannot be loaded ({str(error).splitlines()[0][:200]})"
    return ""


def promotable(task: str, experiment_id: str) -> int:
    """How many runs of an experiment could be promoted, if theirs were today's rows."""
    return sum(not _unfit(c, SELECTION[task]) for c in find_candidates(task, experiment_id))


def validation_rows(run_id: str) -> pd.DataFrame:
    """The validation rows of a run with its predictions: ``row``, the data set's columns, the prediction."""
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/predictions/val.json"))


def score_rows(task: str, uri: str, rows: pd.DataFrame) -> np.ndarray:
    return mlflow.pyfunc.load_model(uri, suppress_warnings=True).predict(rows)[ANSWER_COLUMNS[task]].to_numpy()
