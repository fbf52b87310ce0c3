"""Decide whether the best candidate replaces the champion. Writes nothing.

Challenger and champion are compared on the same rows: the validation rows of the split that ``splits.py`` chooses. If
both were validated on that split, their logged predictions are compared. A champion of another split or data file, or
whose predictions are lost, scores the rows with its own code, provided that this is fair: none of them, by value, was
among the rows that trained it or chose its epoch. Where neither is possible, ``force`` decides.

A champion that was fetched but cannot be loaded is replaced without a comparison, since nobody can use it. One whose
files cannot be fetched keeps the alias: its store may only be down.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlflow import MlflowClient

from abalone.evaluation.scores import paired_bootstrap
from abalone.registry.candidates import (
    Candidate,
    add_recorded_files,
    find_candidates,
    refuse_rolled_back,
    validation_rows,
)
from abalone.registry.champion import Champion, Incomparable, champion_predictions, describe_champion
from abalone.registry.loading import UnusableModel
from abalone.registry.splits import SplitChoice, choose_split
from abalone.registry.versions import CHAMPION, Registered, read_aliases, read_registered
from abalone.settings import PREDICTION_COLUMNS, SELECTION


@dataclass(frozen=True)
class Decision:
    """The outcome of a promotion for one task.

    Parameters
    ----------
    task : str
        classification or regression.
    experiment : str
        Name of the experiment that holds the candidates.
    registered : Registered
        The registered model before the promotion.
    split : SplitChoice
        The split that is compared on, and the others.
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
    experiment: str
    registered: Registered
    split: SplitChoice
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

    @property
    def best(self) -> Candidate:
        """The challenger, of a decision that has one."""
        return self.eligible[0]


def decide(
    task: str,
    experiment_id: str,
    min_improvement: float = 0.0,
    force: bool = False,
    split: str = "",
    experiment: str = "",
) -> Decision:
    """Find the best candidate of an experiment and compare it with the champion.

    Parameters
    ----------
    task : str
        classification or regression.
    experiment_id : str
        Experiment that holds the candidates.
    min_improvement, force, split
        As for ``promote``.
    experiment : str
        Name of the experiment; "" to ask for it.
    """
    registered = read_registered(task)
    found = refuse_rolled_back(find_candidates(task, experiment_id), registered.versions)
    found = add_recorded_files(found, registered.versions)
    champion = describe_champion(registered.holder(CHAMPION), found)
    choice, candidates = choose_split(found, champion.split if champion else "", split)
    challenger = next((candidate for candidate in candidates if not candidate.refusal), None)
    promotes, reason = _judge(task, challenger, champion, min_improvement, force)
    if champion and not promotes and read_aliases(task).get(CHAMPION) != champion.version:
        # Somebody has deleted or replaced the champion meanwhile. (What promotes looks at the registry again later.)
        return decide(task, experiment_id, min_improvement, force, split, experiment)
    version = champion.version if champion else None
    return Decision(
        task=task,
        experiment=experiment or MlflowClient().get_experiment(experiment_id).name,
        registered=registered,
        split=choice,
        candidates=candidates,
        champion=champion,
        promotes=promotes,
        reason=reason,
        version=version,
    )


def _judge(
    task: str, challenger: Candidate | None, champion: Champion | None, min_improvement: float, force: bool
) -> tuple[bool, str]:
    """Return whether to promote the challenger, and why."""
    if challenger is None:
        return False, "no candidate"
    if champion is None:
        return True, f"the first champion, {challenger.lead:.0%} better than the baseline"
    if challenger.run_id == champion.run_id:
        return False, "it is already the champion; nothing changes"
    try:
        difference, low, high = _compare(task, challenger, champion)
    except UnusableModel as error:
        return True, f"version {champion.version}, the champion, {error.problem}"
    except Incomparable as error:
        remedy = "promoted by -P force=true" if force else "give -P force=true to promote it all the same"
        return force, f"it cannot be compared with the champion: {error}; {remedy}"
    shown = f"{SELECTION[task]} {difference:+.5f} against the champion (95 % interval {low:+.5f} to {high:+.5f})"
    noise = ", within the noise" if low <= 0 <= high else ""
    if difference >= 0:
        return False, f"not better than the champion: {shown}; nothing changes"
    if -difference < min_improvement:
        return False, f"better by less than min_improvement={min_improvement:g}{noise}: {shown}"
    return True, f"better than the champion{noise}: {shown}"


def _compare(task: str, challenger: Candidate, champion: Champion) -> tuple[float, float, float]:
    """Compare two models in the selection metric on the challenger's validation rows.

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
    rows = validation_rows(challenger.run_id) if challenger.rows is None else challenger.rows
    challenger_predicts = rows[PREDICTION_COLUMNS[task]].to_numpy()
    champion_predicts = champion_predictions(task, challenger, champion, rows)
    return paired_bootstrap(task, rows["Rings"].to_numpy(), challenger_predicts, champion_predicts)
