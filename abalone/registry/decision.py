"""Decide whether the best candidate replaces the champion. Writes nothing.

Challenger and champion are compared on the same rows: those of the current split. If both were validated on that split,
their logged predictions are compared. A champion of another split or data file scores the current rows with its own
code, provided that none of them, by value, was among the rows that trained it or chose its epoch. Where neither is
possible, ``force`` decides.

A champion that was fetched but cannot be loaded is replaced without a comparison, since nobody can use it. One whose
files cannot be fetched keeps the alias: its store may only be down.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.data.reading import FILE_COLUMNS, read
from abalone.data.splitting import split
from abalone.evaluation.scores import paired_bootstrap
from abalone.model.rows import BadRows
from abalone.registry.candidates import Candidate, find_candidates, judge_candidates, validation_rows
from abalone.registry.loading import UnreachableModel, UnusableModel, describe, load_model
from abalone.registry.versions import CHAMPION, holder, versions
from abalone.settings import ANSWER_COLUMNS, PREDICTION_COLUMNS, REGISTERED_MODELS, SELECTION, UserError, as_text


class Incomparable(Exception):
    """The champion cannot be scored fairly on the current rows; the message says why."""


@dataclass(frozen=True)
class Champion:
    """The version that holds the alias; ``run_id`` and ``split`` are empty if no promotion registered it."""

    version: int
    run_id: str
    split: str


@dataclass(frozen=True)
class Decision:
    """The outcome of a promotion for one task.

    Parameters
    ----------
    task : str
        classification or regression.
    candidates : tuple of Candidate
        Best first, then the refused.
    champion : Champion or None
        The champion before the promotion.
    promotes : bool
        Whether the first candidate becomes champion.
    reason : str
        Why, or why not.
    version : int or None
        Version of the champion after the promotion.
    """

    task: str
    candidates: tuple[Candidate, ...]
    champion: Champion | None
    promotes: bool
    reason: str
    version: int | None = None

    @property
    def eligible(self) -> list[Candidate]:
        """The candidates that are not refused, best first."""
        return [candidate for candidate in self.candidates if not candidate.refusal]

    @property
    def challenger(self) -> Candidate | None:
        """The best eligible candidate, or None."""
        return next(iter(self.eligible), None)


def decide(task: str, experiment_id: str, min_improvement: float = 0.0, force: bool = False) -> Decision:
    """Find the best candidate of an experiment and compare it with the champion.

    Parameters
    ----------
    task : str
        classification or regression.
    experiment_id : str
        Experiment that holds the candidates.
    min_improvement, force
        As for ``promote``.
    """
    candidates = judge_candidates(task, find_candidates(task, experiment_id), versions(task))
    champion = _find_champion(task)
    challenger = next((candidate for candidate in candidates if not candidate.refusal), None)
    promotes, reason = _judge(task, challenger, champion, min_improvement, force)
    version = champion.version if champion else None
    return Decision(
        task=task,
        candidates=candidates,
        champion=champion,
        promotes=promotes,
        reason=reason,
        version=version,
    )


def _find_champion(task: str) -> Champion | None:
    version = holder(task, CHAMPION)
    if version is None:
        return None
    return Champion(version=int(version.version), run_id=version.run_id or "", split=version.tags.get("split", ""))


def _judge(
    task: str, challenger: Candidate | None, champion: Champion | None, min_improvement: float, force: bool
) -> tuple[bool, str]:
    """Return whether to promote the challenger, and why."""
    if challenger is None:
        return False, "no candidate"
    if champion is None:
        lead = 1 - challenger.score / challenger.baseline
        return True, f"the first champion, {lead:.0%} better than the baseline"
    if challenger.run_id == champion.run_id:
        return False, "it is already the champion; nothing changes"
    try:
        difference, low, high = _compare(task, challenger, champion)
    except UnusableModel as error:
        return True, f"version {champion.version}, the champion, {error.problem}"
    except Incomparable as error:
        return force, f"it cannot be compared with the champion: {error}; force={as_text(force)} decides"
    shown = f"{SELECTION[task]} {difference:+.5f} against the champion (95 % interval {low:+.5f} to {high:+.5f})"
    noise = ", within the noise" if low <= 0 <= high else ""
    if difference >= 0:
        return False, f"not better than the champion: {shown}; nothing changes"
    if -difference < min_improvement:
        return False, f"better by less than min_improvement={min_improvement:g}{noise}: {shown}"
    return True, f"better than the champion{noise}: {shown}"


def _compare(task: str, challenger: Candidate, champion: Champion) -> tuple[float, float, float]:
    """Compare two models in the selection metric on the current validation rows.

    Returns
    -------
    difference, low, high : float
        Challenger minus champion with its 95 % interval.

    Raises
    ------
    Incomparable
    UnusableModel
        If the champion's model does not work.
    """
    rows = validation_rows(challenger.run_id)
    challenger_predicts = rows[PREDICTION_COLUMNS[task]].to_numpy()
    champion_predicts = _champion_predictions(task, challenger, champion, rows)
    if len(champion_predicts) != len(rows):
        raise Incomparable(f"version {champion.version} was scored on {len(champion_predicts)} rows, not {len(rows)}")
    return paired_bootstrap(task, rows["Rings"].to_numpy(), challenger_predicts, champion_predicts)


def _champion_predictions(task: str, challenger: Candidate, champion: Champion, rows: pd.DataFrame) -> np.ndarray:
    """Return the champion's predictions of the challenger's validation rows.

    The champion is loaded even if its logged predictions are enough, because a champion that does not work must be
    replaced.
    """
    try:
        model = load_model(f"models:/{REGISTERED_MODELS[task]}/{champion.version}")
        if champion.split == challenger.split:
            model.predict(rows.head())
            return validation_rows(champion.run_id)[PREDICTION_COLUMNS[task]].to_numpy()
        _check_unseen(champion, rows)
        return model.predict(rows)[ANSWER_COLUMNS[task]].to_numpy()
    except UnreachableModel as error:
        raise Incomparable(f"version {champion.version} {error.problem}") from error
    except BadRows as error:
        raise Incomparable(f"version {champion.version} refuses the current rows ({error.message})") from error
    except (MlflowException, OSError) as error:
        raise Incomparable(f"version {champion.version} cannot be read ({describe(error)})") from error


def _check_unseen(champion: Champion, rows: pd.DataFrame) -> None:
    """Raise ``Incomparable`` if any of ``rows``, by its values, trained the champion or chose its epoch."""
    if not champion.run_id:
        raise Incomparable(f"the run that trained version {champion.version} is not known")
    params = MlflowClient().get_run(champion.run_id).data.params
    try:
        dataset = read(params["data"], params.get("units", "file"), params.get("target", "auto"))
        parts = split(dataset, int(params["seed"]))
    except (KeyError, ValueError, UserError) as error:
        raise Incomparable(f"the rows that trained version {champion.version} are not known ({error})") from error
    if parts.fingerprint != champion.split:
        raise Incomparable(f"the data that trained version {champion.version} have changed since: {dataset.path}")
    seen = dataset.frame.iloc[np.concatenate([parts.train, parts.val])]
    shared = _row_values(rows) & _row_values(seen)
    if shared:
        raise Incomparable(
            f"{len(shared)} of the current {len(rows)} validation rows trained version {champion.version}"
        )


def _row_values(frame: pd.DataFrame) -> set[tuple]:
    return set(frame[list(FILE_COLUMNS)].round(9).itertuples(index=False, name=None))
