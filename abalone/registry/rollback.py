"""Restore the previous champion."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlflow import MlflowClient

from abalone.registry.model_page import describe_model
from abalone.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, holder, set_alias
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.addresses import Naming, link, registered_model_path, text_only, version_path
from abalone.tracking.run_logging import DESCRIPTION_TAG, log_tags
from abalone.tracking.runs import RunOptions, tracked_run


def rollback(tasks: Sequence[str], say: Callable[[str], None], options: RunOptions = RunOptions()) -> None:
    """Swap champion and previous champion of each task.

    The version that loses the alias is tagged ``rolled_back``, and its score is not promoted again on its split. A
    second rollback swaps the two back, removes that tag, and sets none.

    Parameters
    ----------
    tasks : sequence of str
        classification, regression or both.
    say : callable
        Takes a line per task.
    options : RunOptions
        Where the rollback's own run is filed.

    Raises
    ------
    UserError
        If a task has no previous champion; nothing is changed then.
    """
    with tracked_run("rollback", {"stage": "rollback"}, options) as run_id:
        client = MlflowClient()
        pairs = {}
        for task in tasks:
            pairs[task] = (_required_holder(task, CHAMPION), _required_holder(task, PREVIOUS))
        for task, (champion, previous) in pairs.items():
            name = REGISTERED_MODELS[task]
            if ROLLED_BACK in previous.tags:
                client.delete_model_version_tag(name, previous.version, ROLLED_BACK)
            else:
                client.set_model_version_tag(name, champion.version, ROLLED_BACK, time.strftime("%Y-%m-%d %H:%M:%S"))
            set_alias(client, name, CHAMPION, previous.version)
            set_alias(client, name, PREVIOUS, champion.version)
            describe_model(client, task)
        log_tags(run_id, {DESCRIPTION_TAG: _describe(pairs, link)})
        say(_describe(pairs, text_only))


def _describe(pairs: Mapping[str, tuple[Any, Any]], named: Naming) -> str:
    """Name the new champion and the new previous version of each task."""
    lines = []
    for task, (champion, previous) in pairs.items():
        name = REGISTERED_MODELS[task]
        model = named(name, registered_model_path(name))
        back = named(f"version {previous.version}", version_path(name, previous.version))
        gone = named(str(champion.version), version_path(name, champion.version))
        lines.append(f"{model}: {back} is champion again; {gone} is previous.")
    return "\n\n".join(lines)


def _required_holder(task: str, alias: str) -> Any:
    version = holder(task, alias)
    if version is None:
        raise UserError(f"{REGISTERED_MODELS[task]} has no version with the alias {alias}; nothing to roll back")
    return version
