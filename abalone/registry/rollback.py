"""Put the previous champion back."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from mlflow import MlflowClient

from abalone.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, holder, set_alias
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.run_logging import log_tags
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
    client = MlflowClient()
    with tracked_run("rollback", {"stage": "rollback"}, options) as run_id:
        pairs = {}
        for task in tasks:
            pairs[task] = (_required_holder(task, CHAMPION), _required_holder(task, PREVIOUS))
        lines = []
        for task, (champion, previous) in pairs.items():
            name = REGISTERED_MODELS[task]
            if ROLLED_BACK in previous.tags:
                client.delete_model_version_tag(name, previous.version, ROLLED_BACK)
            else:
                client.set_model_version_tag(name, champion.version, ROLLED_BACK, time.strftime("%Y-%m-%d %H:%M:%S"))
            set_alias(client, name, CHAMPION, previous.version)
            set_alias(client, name, PREVIOUS, champion.version)
            lines.append(f"{name}: version {previous.version} is champion again; {champion.version} is previous.")
        log_tags(run_id, {"mlflow.note.content": "\n\n".join(lines)})
        say("\n".join(lines))


def _required_holder(task: str, alias: str) -> Any:
    version = holder(task, alias)
    if version is None:
        raise UserError(f"{REGISTERED_MODELS[task]} has no version with the alias {alias}; nothing to roll back")
    return version
