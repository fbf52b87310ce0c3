"""Versions and aliases of the registered models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.settings import REGISTERED_MODELS
from abalone.tracking.plain_errors import fault

CHAMPION = "champion"  # alias of the version to use
PREVIOUS = "previous"  # alias of the version that the champion replaced
ROLLED_BACK = "rolled_back"  # tag of a version: when it was rolled back
ROLLING_BACK = "rolling_back"  # tag of a registered model: what a rollback is doing
LEARNED_TAG = "learned_from"  # tag of a version: the rows that it was fitted on
LIMITS_TAG = "limits"  # tag of a version: how far off it is for old animals
PAGE_SIZE = 100
ATTEMPTS = 20


def holder(task: str, alias: str) -> Any:
    """Return the model version that holds an alias, or None."""
    client = MlflowClient()
    name = REGISTERED_MODELS[task]
    # Not get_model_version_by_alias: it raises the same error for a missing alias and for a server that is down.
    for model in client.search_registered_models(f"name = '{name}'"):
        if alias in model.aliases:
            return client.get_model_version(name, model.aliases[alias])
    return None


def versions(task: str) -> list[Any]:
    """Return all versions of a task's registered model."""
    return list(all_pages(MlflowClient().search_model_versions, f"name = '{REGISTERED_MODELS[task]}'"))


def find_rolled_back(versions: Sequence[Any], run_id: str, split: str, score: str) -> str:
    """Find the version because of which a run is not promoted again; "" if there is none.

    The score counts and not only the run, so that neither another version nor another run with the same score on the
    same split is promoted again. The run counts for a version that was registered by hand, which has no tags.
    """
    for version in versions:
        if ROLLED_BACK not in version.tags:
            continue
        has_same_score = (version.tags.get("split"), version.tags.get("score")) == (split, score)
        if has_same_score or version.run_id == run_id:
            return str(version.version)
    return ""


def all_pages(search: Callable[..., Any], *query: Any) -> Iterator[Any]:
    """Yield the results of one of MLflow's paged searches, over all pages."""
    token = None
    while True:
        page = search(*query, max_results=PAGE_SIZE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def set_alias(client: MlflowClient, name: str, alias: str, version: Any) -> bool:
    """Point an alias of the registered model ``name`` at a version.

    Two processes that set a new alias at the same time violate a UNIQUE constraint of MLflow's database, which refuses
    one of them; so a failed attempt is repeated.

    Returns
    -------
    bool
        False if somebody has deleted the version; the alias then stays where it was.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            client.set_registered_model_alias(name, alias, str(version))
            break
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            if attempt == ATTEMPTS or fault(error):
                raise
    return True
