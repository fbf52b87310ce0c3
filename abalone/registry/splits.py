"""Which split a promotion compares on: a rule that a run on rows of its own cannot upset.

Validation scores can be compared only on the same rows, so a promotion considers the runs of one split. Unless the user
names it, that is

1. the split of the champion;
2. otherwise, or if none of its candidates works, the split with the most candidates; among equals the one with the
   newest run.

A single training on another file or seed therefore changes nothing for the others. Whoever means to go on with other
rows says so once (``-P split=FINGERPRINT``); after the promotion the champion's split is the new one.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow import MlflowClient

from abalone.registry.candidates import Candidate, find_candidates, keep_split, refuse_rolled_back, try_models
from abalone.registry.champion import describe_champion
from abalone.registry.versions import CHAMPION, read_registered
from abalone.settings import TASKS, UserError
from abalone.tracking.markdown import as_code, escape

SHOWN_SPLITS = 3


@dataclass(frozen=True)
class SplitCount:
    """A split, and the runs on it that can be promoted.

    Parameters
    ----------
    split : str
        Fingerprint.
    candidates : int
        Number of the runs.
    data, seed : str
        Settings of the newest run, which name the split to a person.
    started : int
        When the newest run began, in milliseconds since 1970.
    """

    split: str
    candidates: int
    data: str
    seed: str
    started: int


@dataclass(frozen=True)
class SplitChoice:
    """The split that a promotion compares on.

    Parameters
    ----------
    split : str
        Fingerprint; empty if no run can be promoted.
    reason : str
        Why this one.
    counts : tuple of SplitCount
        All splits with candidates, this one included, in the order in which they would be chosen.
    """

    split: str
    reason: str
    counts: tuple[SplitCount, ...]

    @property
    def others(self) -> list[SplitCount]:
        """The splits that are left out."""
        return [count for count in self.counts if count.split != self.split]


def count_splits(candidates: Sequence[Candidate], champion_split: str) -> list[SplitCount]:
    """Count the candidates of each split, in the order in which a promotion would choose them.

    Parameters
    ----------
    candidates : sequence of Candidate
        Those with a refusal do not count.
    champion_split : str
        Split of the champion; empty if there is none.
    """
    by_split: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        if not candidate.refusal:
            by_split.setdefault(candidate.split, []).append(candidate)
    counts = []
    for name, runs in by_split.items():
        newest = max(runs, key=lambda run: run.started)
        counts.append(SplitCount(name, len(runs), newest.data, newest.seed, newest.started))
    return sorted(counts, key=lambda count: (count.split == champion_split, count.candidates, count.started))[::-1]


def expected_split(task: str, experiment_id: str) -> tuple[SplitChoice, list[Candidate]]:
    """Choose the split of a promotion without loading a model, as if all of them worked.

    Parameters
    ----------
    task : str
    experiment_id : str
        Experiment that holds the candidates.

    Returns
    -------
    SplitChoice
    list of Candidate
        Those on the split, the best first.
    """
    registered = read_registered(task)
    found = refuse_rolled_back(find_candidates(task, experiment_id), registered.versions)
    champion = describe_champion(registered.holder(CHAMPION), found)
    champion_split = champion.split if champion else ""
    counts = tuple(count_splits(found, champion_split))
    first = counts[0].split if counts else ""
    choice = SplitChoice(split=first, reason=_reason(first, champion_split, ""), counts=counts)
    return choice, [run for run in keep_split(found, first) if not run.refusal]


def choose_split(
    candidates: Sequence[Candidate], champion_split: str, wanted: str = ""
) -> tuple[SplitChoice, tuple[Candidate, ...]]:
    """Choose the split by the rule, and judge the candidates on it.

    Parameters
    ----------
    candidates : sequence of Candidate
        All runs of the task; those with a refusal are not chosen.
    champion_split : str
        Split of the champion; empty if there is none, or it is not known.
    wanted : str
        Fingerprint that the user gave, or "".

    Returns
    -------
    SplitChoice
    tuple of Candidate
        Best first, then the refused, those of other splits among them.
    """
    judged = list(candidates)
    order = [count.split for count in count_splits(judged, champion_split)]
    if wanted:
        order = [wanted]
    chosen = order[0] if order else ""
    for name in order:
        judged = try_models(judged, name)
        if any(candidate.split == name and not candidate.refusal for candidate in judged):
            chosen = name
            break
    choice = SplitChoice(
        split=chosen,
        reason=_reason(chosen, champion_split, wanted),
        counts=tuple(count_splits(judged, champion_split)),
    )
    return choice, keep_split(judged, chosen)


def check_split(wanted: str, experiment_id: str) -> None:
    """Refuse a split that no run has.

    Parameters
    ----------
    wanted : str
        Fingerprint that the user gave.
    experiment_id : str
        Experiment that holds the candidates.

    Raises
    ------
    UserError
        If no run of any task, refused or not, has the split.
    """
    found = [candidate for task in TASKS for candidate in find_candidates(task, experiment_id)]
    if any(candidate.split == wanted for candidate in found):
        return
    counts = count_splits(found, "")
    known = ", ".join(_described(count) for count in counts[:SHOWN_SPLITS]) or "none"
    raise UserError(f"no run of the experiment has the split {wanted!r}; splits with candidates: {known}")


def _described(count: SplitCount) -> str:
    """A split and its candidates, as part of a sentence."""
    number = "1 candidate" if count.candidates == 1 else f"{count.candidates} candidates"
    return f"split {as_code(count.split)} (data {escape(count.data)}, seed {escape(count.seed)}): {number}"


def _reason(chosen: str, champion_split: str, wanted: str) -> str:
    """Why a split was chosen, as part of a sentence."""
    if wanted:
        return "chosen with -P split"
    if chosen == champion_split:
        return "that of the champion"
    if champion_split:
        return f"the one with the most candidates, because that of the champion ({champion_split}) has none that works"
    return "the one with the most candidates"


def left_out_text(choice: SplitChoice, experiment: str, task: str) -> str:
    """Name the splits that a promotion leaves out, with the command that chooses the first; empty without any.

    Parameters
    ----------
    choice : SplitChoice
    experiment : str
        Name of the experiment that holds the candidates.
    task : str
    """
    others = choice.others
    if not others:
        return ""
    named = [_described(other) for other in others[:SHOWN_SPLITS]]
    if len(others) > SHOWN_SPLITS:
        named.append(f"and {len(others) - SHOWN_SPLITS} more splits")
    command = as_code(_choose_command(others[0].split, experiment, task))
    return f"Left out, because of other rows: {', '.join(named)}. To go on with other rows, choose them: {command}."


def left_out_note(task: str, experiment_id: str, split: str) -> str:
    """Say that a promotion would leave out the runs of a split, and how to choose them; empty if it would not.

    Parameters
    ----------
    task : str
    experiment_id : str
    split : str
        Fingerprint of the split of a run that has just ended.
    """
    choice, _ = expected_split(task, experiment_id)
    if choice.split in ("", split):
        return ""
    command = _choose_command(split, MlflowClient().get_experiment(experiment_id).name, task)
    return (
        f"A promotion compares on split {choice.split}, {choice.reason}, and leaves out this run on split {split}. "
        f"To go on with its rows: {command}"
    )


def _choose_command(split: str, experiment: str, task: str) -> str:
    """The command that promotes from a split."""
    place = f"-P experiment={shlex.quote(experiment)} -P task={task}"
    return f"mlflow run . -e promote --env-manager local {place} -P split={split}"
