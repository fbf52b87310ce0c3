"""The registry: promotion of the best run to champion, and the way back.

MLflow has no transactions and no compare-and-set on an alias. So a promotion first registers its version, then sets
the alias, and reads again: of all versions registered since the champion that it replaces, on the same split, the
best must hold the alias. Whoever sets the alias last has seen the versions of all others, so promotions at the same
moment, on any number of machines, end with the best. Limits: a process killed between two steps leaves a version
without the alias, for the next promotion to find; promotions on different splits cannot be ranked, the later stays.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone import cards, tracking
from abalone.config import UserError, as_text
from abalone.evaluation import SELECTION
from abalone.selection import (
    CHAMPION,
    MARGIN,
    PREVIOUS,
    ROLLED_BACK,
    Decision,
    decide,
    holder,
    pages,
    promotable,
    rolled_back,
    versions,
)
from abalone.tracking import REGISTERED

ATTEMPTS = 20
SHOWN_CANDIDATES = 10


class NoCandidate(UserError):
    """Nothing that could be promoted."""


def promote(
    tasks: Sequence[str],
    say: Callable[[str], None],
    *,
    experiment: str | None = None,
    min_improvement: float = 0.0,
    dry_run: bool = False,
    force: bool = False,
    **run_options: Any,
) -> list[Decision]:
    """Make the best model of each task champion, if it is better than today's; a tracked run of its own.

    Parameters
    ----------
    tasks : sequence of str
        classification, regression or both.
    say : callable
        Takes the decision, in Markdown.
    experiment : str, optional
        Where to look for candidates; without it, the experiment that the promotion's own run is filed in.
    min_improvement : float
        Least improvement over the champion, in nats (classification) or rings (regression).
    dry_run : bool
        Decide and tell, but leave the registry as it is.
    force : bool
        Promote the best candidate even where it cannot be compared with the champion.
    **run_options
        ``experiment_name``, ``run_name``, ``nested``, as ``tracking.run`` takes them.

    Raises
    ------
    NoCandidate
        If a task has none; the registry is then untouched for all tasks.
    """
    if not 0 <= min_improvement < math.inf:
        raise UserError(f"min_improvement: {min_improvement} is not valid; expected a number of at least 0")
    client = MlflowClient()
    if experiment:  # before a run is filed in it, which would make it
        _find_experiment(experiment, tasks)
        run_options = {**run_options, "experiment_name": run_options.get("experiment_name") or experiment}
    with tracking.run("promote", {"stage": "promote"}, **run_options) as run_id:
        asked = {"task": "both" if len(tasks) > 1 else tasks[0], "experiment": experiment or ""}
        asked |= {"min_improvement": min_improvement, "dry_run": as_text(dry_run), "force": as_text(force)}
        tracking.log_params(run_id, asked)
        where = _find_experiment(experiment, tasks) if experiment else client.get_run(run_id).info.experiment_id
        decisions = [decide(task, where, min_improvement, force) for task in tasks]
        lacking = [decision.task for decision in decisions if not decision.challenger]
        if not lacking and not dry_run:
            decisions = [_crown(decision, run_id) if decision.promotes else decision for decision in decisions]
        text = _log(run_id, decisions, dry_run)
        say(f"{text}\n" if run_options.get("nested") else f"{text}\n\n{tracking.how_to_browse(run_id)}")
        if lacking:
            name = client.get_experiment(where).name
            refused = sum(len(decision.candidates) for decision in decisions if not decision.challenger)
            raise NoCandidate(
                f"no candidate for {' and '.join(lacking)} in experiment {name!r} ({refused} runs refused); "
                + _elsewhere(lacking, where)
            )
    return decisions


def rollback(tasks: Sequence[str], say: Callable[[str], None], **run_options: Any) -> None:
    """Put the previous champion back; a second rollback brings the one that was taken away back again.

    The version that leaves is marked, and no promotion takes its score on its split again; a second rollback takes the
    mark away and sets none.

    Raises
    ------
    UserError
        If a task has no previous champion; nothing is changed then.
    """
    client = MlflowClient()
    with tracking.run("rollback", {"stage": "rollback"}, **run_options) as run_id:
        holders = {task: (holder(task, CHAMPION), holder(task, PREVIOUS)) for task in tasks}
        for task, (champion, previous) in holders.items():
            if not champion or not previous:
                lacks = PREVIOUS if champion else CHAMPION
                raise UserError(f"{REGISTERED[task]} has no version with the alias {lacks}; nothing to roll back")
        lines = []
        for task, (champion, previous) in holders.items():
            name = REGISTERED[task]
            if ROLLED_BACK in previous.tags:
                client.delete_model_version_tag(name, previous.version, ROLLED_BACK)
            else:
                client.set_model_version_tag(name, champion.version, ROLLED_BACK, time.strftime("%Y-%m-%d %H:%M:%S"))
            _set_alias(client, name, CHAMPION, previous.version)
            _set_alias(client, name, PREVIOUS, champion.version)
            lines.append(f"{name}: version {previous.version} is champion again; {champion.version} is previous.")
        tracking.log_tags(run_id, {"mlflow.note.content": "\n\n".join(lines)})
        say("\n".join(lines))


def _crown(decision: Decision, run_id: str) -> Decision:
    """Register the challenger and let the best version have the alias; the decision as it turned out."""
    client, best, task = MlflowClient(), decision.challenger, decision.task
    name, metric = REGISTERED[task], SELECTION[task]
    config, metrics = client.get_logged_model(best.model_id).params, client.get_run(best.run_id).data.metrics
    config = {**config, "task": task}
    tags = {
        "metric": metric,
        "score": repr(best.score),
        f"{metric}/val": f"{best.score:.5f}",
        **({f"{metric}/test": f"{best.test:.5f}"} if best.test is not None else {}),
        f"baseline_{metric}/val": f"{best.baseline:.5f}",
        "dataset": best.dataset,
        "split": best.split,
        "signature": cards.signature_text(config),
        "promotion_run": run_id,
    }
    card = cards.version_card(decision, metric, run_id, metrics, config)
    _describe(client, task)
    registered = client.create_model_version(
        name, f"models:/{best.model_id}", best.run_id, tags, description=card, model_id=best.model_id
    )
    winner = _settle(client, decision, registered)
    if winner == int(registered.version):
        return replace(decision, version=winner)
    reason = f"{decision.reason}; but version {winner}, of another promotion, is champion"
    return replace(decision, version=winner, promotes=False, reason=reason)


def _settle(client: MlflowClient, decision: Decision, mine: Any) -> int:
    """Set the alias, and read again until the best version since the replaced champion holds it; that version."""
    task, name = decision.task, REGISTERED[decision.task]
    replaced = decision.champion.version if decision.champion else 0
    for _ in range(ATTEMPTS):
        champion, known = holder(task, CHAMPION), versions(task)
        now, split, given_up = int(champion.version) if champion else 0, mine.tags["split"], rolled_back(known)
        later = [v for v in known if int(v.version) > replaced and "score" in v.tags]
        same_rows = [v for v in later if v.tags.get("split") == split and (split, v.tags["score"]) not in given_up]
        scores = {int(v.version): float(v.tags["score"]) for v in same_rows}
        best = min(scores, key=lambda version: (scores[version], -version), default=now)
        if now == best or (now > replaced and now not in scores):
            return now
        if replaced:
            _set_alias(client, name, PREVIOUS, replaced)
        _set_alias(client, name, CHAMPION, best)
    raise UserError(f"{name}: the alias {CHAMPION} was changed {ATTEMPTS} times by others; try again")


def _set_alias(client: MlflowClient, name: str, alias: str, version: Any) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return client.set_registered_model_alias(name, alias, str(version))
        except MlflowException:  # two first settings at once: the database refuses one of them
            if attempt == ATTEMPTS - 1:
                raise


def _describe(client: MlflowClient, task: str) -> None:
    """Make the registered model if there is none, and bring its page up to date."""
    name, page = REGISTERED[task], cards.model_page(task, REGISTERED[task])
    try:
        client.create_registered_model(name, description=page)
    except MlflowException:
        if client.get_registered_model(name).description != page:
            client.update_registered_model(name, page)


def _log(run_id: str, decisions: Sequence[Decision], dry_run: bool) -> str:
    """Write the decisions into the run; the short form of them."""
    full, short = (
        "\n\n".join(cards.decision_card(d, SELECTION[d.task], MARGIN, dry_run, shown) for d in decisions)
        for shown in (None, SHOWN_CANDIDATES)
    )
    tables = {
        f"decision_{d.task}.json": pd.DataFrame(cards.decision_rows(d), columns=cards.DECISION_HEADER)
        for d in decisions
    }
    tags = tracking.log_files(run_id, texts={"decision.md": full}, figures={}, tables=tables)
    tags |= {f"champion_{d.task}": str(d.version) for d in decisions if d.version}
    tracking.log_tags(run_id, tags | {"mlflow.note.content": short, "dry_run": as_text(dry_run)})
    return short


def _find_experiment(name: str, tasks: Sequence[str]) -> str:
    """Id of an experiment by its name."""
    found = MlflowClient().get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise NoCandidate(f"no experiment {name!r}; {_elsewhere(tasks)}")
    return found.experiment_id


def _elsewhere(tasks: Sequence[str], here: str | None = None) -> str:
    """The experiments, but for the one that was looked at, that have something to promote, as a sentence."""
    others = [e for e in pages(MlflowClient().search_experiments) if e.experiment_id != here]
    told, hint = [], ""
    for task in tasks:
        counts = {e.name: promotable(task, e.experiment_id) for e in others}
        if some := ", ".join(f"{name} ({count} runs)" for name, count in counts.items() if count):
            hint = "; choose with -P experiment=NAME"
        told.append(f"{task} runs fit for promotion are in: {some or 'no other experiment, so train one first'}")
    return "; ".join(told) + hint
