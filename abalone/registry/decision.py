"""TODO registry.decision"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.data.reading import FILE_COLUMNS, read
from abalone.data.splitting import split
from abalone.evaluation.scores import paired_bootstrap
from abalone.registry.candidates import Candidate, find_candidates, judge_candidates, score_rows, validation_rows
from abalone.registry.versions import CHAMPION, holder, versions
from abalone.settings import PREDICTION_COLUMNS, REGISTERED_MODELS, SELECTION, UserError, as_text


class Incomparable(Exception):
    """The champion cannot be scored fairly on today's rows; the text says why."""


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
    candidates = judge_candidates(task, find_candidates(task, experiment_id), versions(task))
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


def _compare(task: str, challenger: Candidate, champion: Champion) -> tuple[float, float, float]:
    """Challenger minus champion in the selection metric on today's validation rows, with its 95 % interval."""
    rows = validation_rows(challenger.run_id)
    try:
        if champion.split == challenger.split:
            theirs = validation_rows(champion.run_id)[PREDICTION_COLUMNS[task]].to_numpy()
        else:
            _check_unseen(champion, rows)
            theirs = score_rows(task, f"models:/{REGISTERED_MODELS[task]}/{champion.version}", rows)
    except (MlflowException, OSError) as error:
        raise Incomparable(f"version {champion.version} cannot be read ({str(error).splitlines()[0][:200]})") from None
    mine, rings = rows[PREDICTION_COLUMNS[task]].to_numpy(), rows["Rings"].to_numpy()
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
    both = [set(frame[list(FILE_COLUMNS)].round(9).itertuples(index=False, name=None)) for frame in (rows, shaped)]
    if shared := len(both[0] & both[1]):
        raise Incomparable(f"{shared} of today's {len(rows)} validation rows trained version {champion.version}")
