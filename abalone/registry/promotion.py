"""Promote the best run of each task to champion, as a tracked run of its own.

MLflow has no transactions and no compare-and-set on an alias, so two promotions may run at the same time. A promotion
therefore registers its version, sets the alias, and reads the registry again. Of all versions registered since the
champion that it replaces, on the same split, the best must hold the alias; if it does not, the promotion sets the alias
again. The last to set the alias has seen every other version, so promotions at the same time, on any number of
machines, end with the best version as champion. If they promote the same run, the first version of it is kept and the
others are deleted again.

Two limits remain. A process that is killed between two steps leaves a version without the alias; the next promotion
takes it into account. Promotions on different splits cannot be ranked, so the last one wins.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from mlflow import MlflowClient

from abalone.registry.candidates import Candidate, count_promotable
from abalone.registry.decision import Decision, decide
from abalone.registry.model_page import create_model, model_page
from abalone.registry.pages import (
    DECISION_HEADER,
    decision_rows,
    decision_text,
    other_splits_text,
    promotion_page,
    version_page,
)
from abalone.registry.promoted_run import limits_text, read_promoted_run
from abalone.registry.splits import check_split
from abalone.registry.versions import (
    ATTEMPTS,
    CHAMPION,
    LEARNED_TAG,
    LIMITS_TAG,
    PREVIOUS,
    Registered,
    RegistryClient,
    all_pages,
    find_rolled_back,
    read_registered,
    set_alias,
)
from abalone.settings import REGISTERED_MODELS, SELECTION, UserError, as_text
from abalone.tracking.addresses import find_run_path
from abalone.tracking.database import prepare_database
from abalone.tracking.experiments import refuse_deleted
from abalone.tracking.file_sums import FILES_TAG
from abalone.tracking.known_runs import experiment_id_of, known_run
from abalone.tracking.run_logging import DESCRIPTION_TAG, log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, how_to_browse, tracked_run

SHOWN_CANDIDATES = 10  # in the description of a promotion's run


class NoCandidate(UserError):
    """No run can be promoted."""


def promote(
    tasks: Sequence[str],
    say: Callable[[str], None],
    *,
    experiment: str | None = None,
    min_improvement: float = 0.0,
    dry_run: bool = False,
    force: bool = False,
    split: str = "",
    options: RunOptions = RunOptions(),
) -> list[Decision]:
    """Make the best model of each task champion if it is better than the current champion.

    Parameters
    ----------
    tasks : sequence of str
        classification, regression or both.
    say : callable
        Takes the decision, in Markdown.
    experiment : str, optional
        Name of the experiment that holds the candidates; by default that of the promotion's own run.
    min_improvement : float
        Smallest improvement over the champion that is promoted, in nats (classification) or rings (regression).
    dry_run : bool
        Decide, but leave the registry as it is.
    force : bool
        Promote the best candidate even if it cannot be compared with the champion.
    split : str
        Fingerprint of the split whose runs are candidates; "" for that of the champion, or, if it has none, the one
        with the most candidates.
    options : RunOptions
        Where the promotion's own run is filed.

    Returns
    -------
    list of Decision
        One per task.

    Raises
    ------
    NoCandidate
        If a task has none; the registry is then unchanged for all tasks.
    """
    if not 0 <= min_improvement < math.inf:
        raise UserError(f"min_improvement: {min_improvement} is not valid; expected a number of at least 0")
    prepare_database()
    client = RegistryClient()
    experiment_id = ""
    if experiment:
        experiment_id = _find_experiment(experiment, tasks)  # before filing the promotion's run in it would create it
        options = replace(options, experiment_name=options.experiment_name or experiment)
    with tracked_run("promote", {"stage": "promote"}, options) as run_id:
        params = {
            "task": "both" if len(tasks) > 1 else tasks[0],
            "experiment": experiment or "",
            "min_improvement": min_improvement,
            "dry_run": as_text(dry_run),
            "force": as_text(force),
            "split": split,
        }
        log_params(run_id, params)
        if not experiment_id:
            experiment_id = experiment_id_of(run_id)
        if split:
            check_split(split, experiment_id)
        filed_in = known_run(run_id).experiment
        if filed_in and not experiment:
            experiment = filed_in.name
        decisions = [decide(task, experiment_id, min_improvement, force, split, experiment or "") for task in tasks]
        lacking = [decision for decision in decisions if not decision.challenger]
        if not lacking and not dry_run:
            page = find_run_path(run_id)
            for place, decision in enumerate(decisions):
                if decision.promotes:
                    decisions[place] = register_champion(decision, run_id, page, client)
        withheld = _reason_to_withhold(dry_run, lacking)
        _log(run_id, decisions, withheld)
        text = "\n\n".join(decision_text(decision, withheld) for decision in decisions)
        if options.nested:
            say(f"{text}\n")
        else:
            say(f"{text}\n\n{how_to_browse(run_id)}")
        if lacking:
            raise NoCandidate(_no_candidate(decisions, experiment_id))
    return decisions


def register_champion(decision: Decision, run_id: str, page: str, client: MlflowClient | None = None) -> Decision:
    """Register the challenger as a version, and give the alias to the best version.

    Parameters
    ----------
    decision : Decision
        A decision that promotes.
    run_id : str
        The promotion's run.
    page : str
        Path of its page in the UI.
    client : MlflowClient, optional
        Client that writes to the registry.

    Returns
    -------
    Decision
        The decision with the champion's version. It no longer promotes if another promotion at the same time
        registered a better version.
    """
    client = client or RegistryClient()
    created = None
    if not _version_of(decision, decision.registered):
        created = _create_version(decision, run_id, page, client)
    registered = read_registered(decision.task)
    version = _version_of(decision, registered)
    if created and created != version:
        # No other promotion can have given it the alias: whoever sees it sees the first one too, which has the same
        # score and precedence.
        client.delete_model_version(REGISTERED_MODELS[decision.task], str(created))
        registered = read_registered(decision.task)
    winner = _settle(client, decision, registered)
    if winner == version:
        return replace(decision, version=winner)
    reason = f"{decision.reason}; but version {winner}, of another promotion, is champion"
    return replace(decision, version=winner, promotes=False, reason=reason)


def _version_of(decision: Decision, registered: Registered) -> int | None:
    """The first version of the challenger that was registered after the champion; None if there is none.

    Another promotion at the same time, or one that was killed, has registered it.
    """
    champion = decision.champion.version if decision.champion else 0
    run_id = decision.best.run_id
    found = []
    for version in registered.versions:
        if int(version.version) > champion and version.run_id == run_id and "score" in version.tags:
            found.append(int(version.version))
    return min(found, default=None)


def _create_version(decision: Decision, run_id: str, page: str, client: MlflowClient) -> int:
    """Register the challenger, and return its version."""
    best = decision.best
    name = REGISTERED_MODELS[decision.task]
    promoted = read_promoted_run(decision.task, best, client)
    tags = _version_tags(decision.task, best) | {"signature": promoted.signature, "promotion_run": run_id}
    limits = limits_text(promoted.age_groups)
    if limits:
        tags[LIMITS_TAG] = limits
    if promoted.learned_from:
        tags[LEARNED_TAG] = promoted.learned_from
    description = version_page(decision, page, promoted)
    if not decision.registered.exists:
        create_model(client, decision.task)
    created = client.create_model_version(
        name, f"models:/{best.model_id}", best.run_id, tags, description=description, model_id=best.model_id
    )
    return int(created.version)


def _version_tags(task: str, candidate: Candidate) -> dict[str, str]:
    metric = SELECTION[task]
    tags = {
        "metric": metric,
        "score": repr(candidate.score),  # exact, for comparisons
        f"val/{metric}": f"{candidate.score:.5f}",
        f"baseline/val_{metric}": f"{candidate.baseline:.5f}",
        "dataset": candidate.dataset,
        "split": candidate.split,
        FILES_TAG: candidate.files,
    }
    if candidate.test is not None:
        tags[f"test/{metric}"] = f"{candidate.test:.5f}"
    return tags


def _settle(client: MlflowClient, decision: Decision, registered: Registered) -> int:
    """Make the best version champion, with its page, until the registry has it so; return that version."""
    name = REGISTERED_MODELS[decision.task]
    for _ in range(ATTEMPTS):
        best = _best_version(decision, registered)
        page = model_page(decision.task, registered.version(best))
        has_alias = registered.aliases.get(CHAMPION, 0) == best
        if has_alias and registered.description == page:
            return best
        if not has_alias:
            if decision.champion:
                set_alias(client, name, PREVIOUS, decision.champion.version)
            set_alias(client, name, CHAMPION, best)
        if registered.description != page:
            client.update_registered_model(name, page)
        registered = read_registered(decision.task)
    raise UserError(f"{name}: other processes changed the alias {CHAMPION} {ATTEMPTS} times; try again")


def _best_version(decision: Decision, registered: Registered) -> int:
    """The best version registered since the replaced champion, or a champion of another split since then."""
    replaced = decision.champion.version if decision.champion else 0
    current = registered.aliases.get(CHAMPION, 0)
    scores = _rival_scores(registered.versions, replaced, decision.best.split)
    is_of_another_split = current > replaced and current not in scores
    if is_of_another_split:
        return current
    return min(scores, key=lambda version: (scores[version], version), default=current)


def _rival_scores(known: Sequence[Any], replaced: int, split: str) -> dict[int, float]:
    """Score of each version of a split that was registered after version ``replaced`` and not rolled back."""
    scores = {}
    for version in known:
        score = version.tags.get("score")
        is_later = int(version.version) > replaced
        if not (is_later and score and version.tags.get("split") == split):
            continue
        if not find_rolled_back(known, version.run_id, split, score):
            scores[int(version.version)] = float(score)
    return scores


def _reason_to_withhold(dry_run: bool, lacking: Sequence[Decision]) -> str:
    """Why the registry stays as it is, although a candidate is good enough; "" if it does not."""
    if dry_run:
        return "dry run"
    if lacking:
        return f"withheld, since {lacking[0].task} has no candidate"
    return ""


def _log(run_id: str, decisions: Sequence[Decision], withheld: str) -> None:
    """Write the decisions to the run."""
    tables = {}
    champions = {}
    for decision in decisions:
        tables[f"decision_{decision.task}.json"] = pd.DataFrame(decision_rows(decision), columns=DECISION_HEADER)
        if decision.version:
            champions[f"champion_{decision.task}"] = str(decision.version)
    tags = log_files(run_id, texts={"decision.md": promotion_page(decisions, withheld)}, figures={}, tables=tables)
    tags[DESCRIPTION_TAG] = promotion_page(decisions, withheld, SHOWN_CANDIDATES)
    log_tags(run_id, tags | champions)


def _find_experiment(name: str, tasks: Sequence[str]) -> str:
    """Return the id of an experiment."""
    found = MlflowClient().get_experiment_by_name(name)
    refuse_deleted(found)
    if found is None:
        raise NoCandidate(f"no experiment {name!r}; {_elsewhere(tasks)}")
    return found.experiment_id


def _no_candidate(decisions: Sequence[Decision], experiment_id: str) -> str:
    """Say that an experiment has no candidate, and which splits and experiments have one."""
    lacking = [decision for decision in decisions if not decision.challenger]
    tasks = [decision.task for decision in lacking]
    refused = sum(len(decision.candidates) for decision in lacking)
    where = f"experiment {lacking[0].experiment!r}"
    other_splits = [other_splits_text(decision) for decision in lacking if decision.split.others]
    if other_splits:
        where += f" on split {lacking[0].split.split}"
        elsewhere = " ".join(other_splits)
    else:
        elsewhere = _elsewhere(tasks, experiment_id)
    withheld = [decision.task for decision in decisions if decision.promotes]
    hint = f"; -P task={withheld[0]} promotes that alone" if withheld else ""
    return f"no candidate for {' and '.join(tasks)} in {where} ({refused} runs refused); {elsewhere}{hint}"


def _elsewhere(tasks: Sequence[str], searched_id: str | None = None) -> str:
    """Say which experiments, other than the one searched, have runs that pass the gate."""
    others = [e for e in all_pages(MlflowClient().search_experiments) if e.experiment_id != searched_id]
    sentences = []
    hint = ""
    for task in tasks:
        found = []
        for other in others:
            count = count_promotable(task, other.experiment_id)
            if count:
                found.append(f"{other.name} ({count} runs)")
        if found:
            hint = "; choose with -P experiment=NAME"
        where = ", ".join(found) or "no other experiment, so train one first"
        sentences.append(f"{task} runs that can be promoted are in: {where}")
    return "; ".join(sentences) + hint
