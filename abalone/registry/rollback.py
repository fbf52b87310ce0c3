"""Restore the previous champion.

MLflow sets one alias at a time. From before the first until after the last change, a tag of the registered model says
what is being done, so that the next rollback can complete one that was killed in between.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mlflow import MlflowClient

from abalone.registry.loading import check_files
from abalone.registry.model_page import describe_model
from abalone.registry.versions import (
    CHAMPION,
    PREVIOUS,
    ROLLED_BACK,
    ROLLING_BACK,
    Registered,
    RegistryClient,
    read_registered,
    set_alias,
)
from abalone.settings import REGISTERED_MODELS, UserError
from abalone.tracking.addresses import Naming, link, registered_model_path, text_only, version_path
from abalone.tracking.file_sums import FILES_TAG, unchecked_text
from abalone.tracking.run_logging import DESCRIPTION_TAG, log_tags
from abalone.tracking.runs import RunOptions, tracked_run


@dataclass(frozen=True)
class Swap:
    """Two versions whose aliases a rollback exchanges.

    Parameters
    ----------
    going : int
        Version that was champion and becomes previous.
    coming : int
        Version that was previous and becomes champion.
    is_undo : bool
        Whether this undoes an earlier rollback.
    """

    going: int
    coming: int
    is_undo: bool


def rollback(tasks: Sequence[str], say: Callable[[str], None], options: RunOptions = RunOptions()) -> None:
    """Swap champion and previous champion of each task.

    The version that loses the alias is tagged ``rolled_back``, and its score is not promoted again on its split. A
    second rollback swaps the two back, removes that tag, and sets none. If a rollback was killed after it
    set an alias, the next one only completes it.

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
        If a task has no previous champion, or its files cannot be fetched or are not those that were recorded; nothing
        is changed then.
    """
    with tracked_run("rollback", {"stage": "rollback"}, options) as run_id:
        client = RegistryClient()
        swaps = {task: _read_swap(task) for task in tasks}
        unchecked = _check_coming(client, swaps)
        for task, swap in swaps.items():
            _carry_out(client, REGISTERED_MODELS[task], swap)
            describe_model(client, task)
        log_tags(run_id, {DESCRIPTION_TAG: "\n\n".join([_describe(swaps, link), *unchecked])})
        say("\n\n".join([_describe(swaps, text_only), *unchecked]))


def _read_swap(task: str) -> Swap:
    """What the rollback of a task has to do: what an earlier one left undone, or a new swap."""
    name = REGISTERED_MODELS[task]
    registered = read_registered(task)
    champion = _required_version(name, registered, CHAMPION)
    previous = _required_version(name, registered, PREVIOUS)
    begun = registered.tags.get(ROLLING_BACK)
    if begun:
        swap = Swap(**json.loads(begun))
        # Otherwise it was killed before the first alias, or a promotion has come between.
        if int(champion.version) == swap.coming and int(previous.version) in (swap.coming, swap.going):
            return swap
    if champion.version == previous.version:
        raise UserError(f"{name} has no version before version {champion.version}; nothing to roll back")
    return Swap(going=int(champion.version), coming=int(previous.version), is_undo=ROLLED_BACK in previous.tags)


def _check_coming(client: MlflowClient, swaps: Mapping[str, Swap]) -> list[str]:
    """Check the files of the versions that come back; return a sentence for each that has no record of them."""
    unchecked = []
    for task, swap in swaps.items():
        name = REGISTERED_MODELS[task]
        uri = f"models:/{name}/{swap.coming}"
        recorded = client.get_model_version(name, str(swap.coming)).tags.get(FILES_TAG, "")
        check_files(uri, recorded)
        if not recorded:
            unchecked.append(unchecked_text(uri))
    return unchecked


def _carry_out(client: MlflowClient, name: str, swap: Swap) -> None:
    """Give each version the alias of the other; to do it again does no harm."""
    client.set_registered_model_tag(name, ROLLING_BACK, json.dumps(asdict(swap)))
    if not swap.is_undo:
        client.set_model_version_tag(name, str(swap.going), ROLLED_BACK, time.strftime("%Y-%m-%d %H:%M:%S"))
    if not set_alias(client, name, CHAMPION, swap.coming):
        client.delete_model_version_tag(name, str(swap.going), ROLLED_BACK)
        client.delete_registered_model_tag(name, ROLLING_BACK)
        raise UserError(f"{name} has no version {swap.coming} any more; nothing to roll back to")
    set_alias(client, name, PREVIOUS, swap.going)
    if swap.is_undo:
        client.delete_model_version_tag(name, str(swap.coming), ROLLED_BACK)
    client.delete_registered_model_tag(name, ROLLING_BACK)


def _describe(swaps: Mapping[str, Swap], named: Naming) -> str:
    """Name the new champion and the new previous version of each task."""
    lines = []
    for task, swap in swaps.items():
        name = REGISTERED_MODELS[task]
        model = named(name, registered_model_path(name))
        back = named(f"version {swap.coming}", version_path(name, swap.coming))
        gone = named(str(swap.going), version_path(name, swap.going))
        lines.append(f"{model}: {back} is champion again; {gone} is previous.")
    return "\n\n".join(lines)


def _required_version(name: str, registered: Registered, alias: str) -> Any:
    version = registered.holder(alias)
    if version is None:
        raise UserError(f"{name} has no version with the alias {alias}; nothing to roll back")
    return version
