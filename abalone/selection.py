"""Which run should be champion, and why: candidates, gate, and the comparison with today's champion. Writes nothing.

Fit for promotion are the finished runs of one experiment with a model and a score better than the baseline by
``MARGIN``. **Today's split** is that of the newest of them; only runs on the same rows are eligible, ranked by
``evaluation.SELECTION`` on validation. The best must be better than the champion on the same rows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.config import UserError, as_text
from abalone.dataset import COLUMNS, read, split
from abalone.evaluation import SELECTION, paired_bootstrap
from abalone.tracking import REGISTERED

CHAMPION, PREVIOUS, ROLLED_BACK = "champion", "previous", "rolled_back"
MARGIN = 0.05
PREDICTED = {"classification": "probability_old", "regression": "predicted_rings"}  # in predictions/val.json
SCORED = {"classification": "probability_old", "regression": "rings"}  # in the answer of a model
PAGE = 100


class Incomparable(Exception):
    """The champion cannot be scored fairly on today's rows; the text says why."""


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


@dataclass(frozen=True)
class Champion:
    """The version that holds the alias; empty texts where it was not registered by a promotion."""

    version: int
    run_id: str
    split: str


@dataclass(frozen=True)
class Decision:
    """What a promotion found for one task.

    Parameters
    ----------
    candidates : tuple of Candidate
        Best first, then the refused.
    champion : Champion or None
        Of the moment before.
    promotes : bool
        Whether the first candidate is to become champion.
    reason : str
        Why, or why not.
    version : int or None
        The champion's version afterwards.
    """

    task: str
    candidates: tuple[Candidate, ...]
    champion: Champion | None
    promotes: bool
    reason: str
    version: int | None = None

    @property
    def challenger(self) -> Candidate | None:
        """The best of the candidates that are not refused."""
        return next((c for c in self.candidates if not c.refusal), None)


def decide(task: str, experiment_id: str, min_improvement: float = 0.0, force: bool = False) -> Decision:
    """Find the best candidate of an experiment and compare it with the champion; nothing is written.

    Parameters
    ----------
    task : str
        classification or regression.
    experiment_id : str
        Whose runs to look at.
    min_improvement, force
        As for ``promote``.
    """
    candidates = _judge(task, _candidates(task, experiment_id), versions(task))
    best = next((c for c in candidates if not c.refusal), None)
    today = holder(task, CHAMPION)
    champion = today and Champion(int(today.version), today.run_id or "", today.tags.get("split", ""))

    def decision(promotes: bool, reason: str) -> Decision:
        return Decision(task, candidates, champion, promotes, reason, champion and champion.version)

    if best is None:
        return decision(False, "no candidate")
    if champion is None:
        lead = 1 - best.score / best.baseline
        return decision(True, f"the first champion, {lead:.0%} better than the baseline")
    if best.run_id == champion.run_id:
        return decision(False, "it is the champion already; nothing changes")
    try:
        difference, low, high = _compare(task, best, champion)
    except Incomparable as error:
        return decision(force, f"it cannot be compared with the champion: {error}; force={as_text(force)} decides")
    shown = f"{SELECTION[task]} {difference:+.5f} against the champion (95 % interval {low:+.5f} to {high:+.5f})"
    noise = ", inside the noise" if low <= 0 <= high else ""
    if difference >= 0:
        return decision(False, f"not better than the champion: {shown}; nothing changes")
    if -difference < min_improvement:
        return decision(False, f"better by less than min_improvement={min_improvement:g}{noise}: {shown}")
    return decision(True, f"better than the champion{noise}: {shown}")


def _candidates(task: str, experiment_id: str) -> list[Candidate]:
    """Every run of the task, whatever its state."""
    client, metric = MlflowClient(), SELECTION[task]
    models = {
        model.source_run_id: model.model_id
        for model in pages(client.search_logged_models, [experiment_id], f"params.task = '{task}'")
        if str(model.status) == "READY"
    }
    found = []
    for run in pages(client.search_runs, [experiment_id], f"tags.task LIKE '%{task}%'"):
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


def _judge(task: str, candidates: Sequence[Candidate], versions: Sequence[Any]) -> tuple[Candidate, ...]:
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
        rows = _validation_rows(candidate.run_id)
        _score(task, f"models:/{candidate.model_id}", rows.head())
    except Exception as error:  # whatever a lost or damaged file makes of itself
        return f"cannot be loaded ({str(error).splitlines()[0][:200]})"
    return ""


def _compare(task: str, challenger: Candidate, champion: Champion) -> tuple[float, float, float]:
    """Challenger minus champion in the selection metric on today's validation rows, with its 95 % interval."""
    rows = _validation_rows(challenger.run_id)
    try:
        if champion.split == challenger.split:
            theirs = _validation_rows(champion.run_id)[PREDICTED[task]].to_numpy()
        else:
            _check_unseen(champion, rows)
            theirs = _score(task, f"models:/{REGISTERED[task]}/{champion.version}", rows)
    except (MlflowException, OSError) as error:
        raise Incomparable(f"version {champion.version} cannot be read ({str(error).splitlines()[0][:200]})") from None
    mine, rings = rows[PREDICTED[task]].to_numpy(), rows["Rings"].to_numpy()
    if len(theirs) != len(mine):
        raise Incomparable(f"version {champion.version} was scored on {len(theirs)} rows, not {len(mine)}")
    return paired_bootstrap(task, rings, mine, theirs)


def _check_unseen(champion: Champion, rows: pd.DataFrame) -> None:
    """Complain unless none of ``rows`` is, by its values, a row that trained the champion or chose its epoch."""
    run = MlflowClient().get_run(champion.run_id) if champion.run_id else None
    try:
        dataset = read(run.data.params["data"])
        parts = split(dataset, int(run.data.params["seed"]))
    except (AttributeError, KeyError, ValueError, UserError) as error:
        raise Incomparable(f"the rows that trained version {champion.version} are not known ({error})") from None
    if parts.fingerprint != champion.split:
        raise Incomparable(f"the data that trained version {champion.version} have changed since: {dataset.path}")
    shaped = dataset.frame.iloc[np.concatenate([parts.train, parts.val])]
    both = [set(frame[list(COLUMNS)].round(9).itertuples(index=False, name=None)) for frame in (rows, shaped)]
    if shared := len(both[0] & both[1]):
        raise Incomparable(f"{shared} of today's {len(rows)} validation rows trained version {champion.version}")


def _validation_rows(run_id: str) -> pd.DataFrame:
    """The validation rows of a run with its predictions: ``row``, the data set's columns, the prediction."""
    return pd.DataFrame(**mlflow.artifacts.load_dict(f"runs:/{run_id}/predictions/val.json"))


def _score(task: str, uri: str, rows: pd.DataFrame) -> np.ndarray:
    return mlflow.pyfunc.load_model(uri, suppress_warnings=True).predict(rows)[SCORED[task]].to_numpy()


def holder(task: str, alias: str) -> Any:
    """The model version that holds an alias, or None."""
    client, name = MlflowClient(), REGISTERED[task]
    # Not get_model_version_by_alias: its error is the same for no alias and for no answer.
    aliases = [model.aliases for model in client.search_registered_models(f"name = '{name}'") if alias in model.aliases]
    return client.get_model_version(name, aliases[0][alias]) if aliases else None


def versions(task: str) -> list[Any]:
    """All versions of a task's registered model."""
    return list(pages(MlflowClient().search_model_versions, f"name = '{REGISTERED[task]}'"))


def rolled_back(versions: Sequence[Any]) -> dict[tuple[str, str], str]:
    """Split and score of versions that were rolled back, which no version nor run may bring back; to their number."""
    return {(v.tags.get("split"), v.tags.get("score")): v.version for v in versions if ROLLED_BACK in v.tags}


def promotable(task: str, experiment_id: str) -> int:
    """How many runs of an experiment could be promoted, if theirs were today's rows."""
    return sum(not _unfit(c, SELECTION[task]) for c in _candidates(task, experiment_id))


def pages(search: Callable[..., Any], *query: Any) -> Iterator[Any]:
    """All results of one of MLflow's searches, which give them in pages."""
    token = None
    while True:
        page = search(*query, max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return
