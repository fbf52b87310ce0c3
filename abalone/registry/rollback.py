"""TODO registry.rollback"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from mlflow import MlflowClient

from abalone.registry.versions import CHAMPION, PREVIOUS, ROLLED_BACK, holder, set_alias
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.run_logging import log_tags
from abalone.tracking.runs import RunOptions, tracked_run


def rollback(tasks: Sequence[str], say: Callable[[str], None], options: RunOptions = RunOptions()) -> None:
    """Put the previous champion back; a second rollback brings the one that was taken away back again.

    The version that leaves is marked, and no promotion takes its score on its split again; a second rollback takes the
    mark away and sets none.

    Raises
    ------
    UserError
        If a task has no previous champion; nothing is changed then.
    """
    client = MlflowClient()
    with tracked_run("rollback", {"stage": "rollback"}, options) as run_id:
        holders = {task: (holder(task, CHAMPION), holder(task, PREVIOUS)) for task in tasks}
        for task, (champion, previous) in holders.items():
            if not champion or not previous:
                lacks = PREVIOUS if champion else CHAMPION
                raise UserError(
                    f"{REGISTERED_MODELS[task]} has no version with the alias {lacks}; nothing to roll back"
                )
        lines = []
        for task, (champion, previous) in holders.items():
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
