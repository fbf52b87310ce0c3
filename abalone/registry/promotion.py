"""The registry: promotion of the best run to champion, and the way back.

MLflow has no transactions and no compare-and-set on an alias. So a promotion first registers its version, then sets
the alias, and reads again: of all versions registered since the champion that it replaces, on the same split, the
best must hold the alias. Whoever sets the alias last has seen the versions of all others, so promotions at the same
moment, on any number of machines, end with the best. Limits: a process killed between two steps leaves a version
without the alias, for the next promotion to find; promotions on different splits cannot be ranked, the later stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.models import get_model_info

from abalone.registry.candidates import MARGIN, promotable
from abalone.registry.decision import Decision, decide
from abalone.registry.pages import (
    DECISION_HEADER,
    decision_card,
    decision_rows,
    model_page,
    signature_text,
    version_card,
)
from abalone.registry.versions import ATTEMPTS, CHAMPION, PREVIOUS, all_pages, holder, rolled_back, set_alias, versions
from abalone.settings import REGISTERED_MODELS, SELECTION, UserError, as_text
from abalone.tracking.run_logging import log_files, log_params, log_tags
from abalone.tracking.runs import RunOptions, how_to_browse, tracked_run

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
    options: RunOptions = RunOptions(),
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
    options : RunOptions
        Where the promotion's own run is filed.

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
        options = replace(options, experiment_name=options.experiment_name or experiment)
    with tracked_run("promote", {"stage": "promote"}, options) as run_id:
        asked = {"task": "both" if len(tasks) > 1 else tasks[0], "experiment": experiment or ""}
        asked |= {"min_improvement": min_improvement, "dry_run": as_text(dry_run), "force": as_text(force)}
        log_params(run_id, asked)
        where = _find_experiment(experiment, tasks) if experiment else client.get_run(run_id).info.experiment_id
        decisions = [decide(task, where, min_improvement, force) for task in tasks]
        lacking = [decision.task for decision in decisions if not decision.challenger]
        if not lacking and not dry_run:
            decisions = [crown(decision, run_id) if decision.promotes else decision for decision in decisions]
        text = _log(run_id, decisions, dry_run)
        say(f"{text}\n" if options.nested else f"{text}\n\n{how_to_browse(run_id)}")
        if lacking:
            name = client.get_experiment(where).name
            refused = sum(len(decision.candidates) for decision in decisions if not decision.challenger)
            raise NoCandidate(
                f"no candidate for {' and '.join(lacking)} in experiment {name!r} ({refused} runs refused); "
                + _elsewhere(lacking, where)
            )
    return decisions


def crown(decision: Decision, run_id: str) -> Decision:
    """Register the challenger and let the best version have the alias; the decision as it turned out."""
    client, best, task = MlflowClient(), decision.challenger, decision.task
    name, metric = REGISTERED_MODELS[task], SELECTION[task]
    metrics = client.get_run(best.run_id).data.metrics
    signature = get_model_info(f"models:/{best.model_id}").signature
    tags = {
        "metric": metric,
        "score": repr(best.score),
        f"{metric}/val": f"{best.score:.5f}",
        **({f"{metric}/test": f"{best.test:.5f}"} if best.test is not None else {}),
        f"baseline_{metric}/val": f"{best.baseline:.5f}",
        "dataset": best.dataset,
        "split": best.split,
        "signature": signature_text(signature),
        "promotion_run": run_id,
    }
    card = version_card(decision, metric, run_id, metrics, signature)
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
    task, name = decision.task, REGISTERED_MODELS[decision.task]
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
            set_alias(client, name, PREVIOUS, replaced)
        set_alias(client, name, CHAMPION, best)
    raise UserError(f"{name}: the alias {CHAMPION} was changed {ATTEMPTS} times by others; try again")


def _describe(client: MlflowClient, task: str) -> None:
    """Make the registered model if there is none, and bring its page up to date."""
    name, page = REGISTERED_MODELS[task], model_page(task, REGISTERED_MODELS[task])
    try:
        client.create_registered_model(name, description=page)
    except MlflowException:
        if client.get_registered_model(name).description != page:
            client.update_registered_model(name, page)


def _log(run_id: str, decisions: Sequence[Decision], dry_run: bool) -> str:
    """Write the decisions into the run; the short form of them."""
    full, short = (
        "\n\n".join(decision_card(d, SELECTION[d.task], MARGIN, dry_run, shown) for d in decisions)
        for shown in (None, SHOWN_CANDIDATES)
    )
    tables = {f"decision_{d.task}.json": pd.DataFrame(decision_rows(d), columns=DECISION_HEADER) for d in decisions}
    tags = log_files(run_id, texts={"decision.md": full}, figures={}, tables=tables)
    tags |= {f"champion_{d.task}": str(d.version) for d in decisions if d.version}
    log_tags(run_id, tags | {"mlflow.note.content": short, "dry_run": as_text(dry_run)})
    return short


def _find_experiment(name: str, tasks: Sequence[str]) -> str:
    """Id of an experiment by its name."""
    found = MlflowClient().get_experiment_by_name(name)
    if found is None or found.lifecycle_stage != "active":
        raise NoCandidate(f"no experiment {name!r}; {_elsewhere(tasks)}")
    return found.experiment_id


def _elsewhere(tasks: Sequence[str], here: str | None = None) -> str:
    """The experiments, but for the one that was looked at, that have something to promote, as a sentence."""
    others = [e for e in all_pages(MlflowClient().search_experiments) if e.experiment_id != here]
    told, hint = [], ""
    for task in tasks:
        counts = {e.name: promotable(task, e.experiment_id) for e in others}
        if some := ", ".join(f"{name} ({count} runs)" for name, count in counts.items() if count):
            hint = "; choose with -P experiment=NAME"
        told.append(f"{task} runs fit for promotion are in: {some or 'no other experiment, so train one first'}")
    return "; ".join(told) + hint
