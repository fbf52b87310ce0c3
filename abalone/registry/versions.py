"""TODO registry.versions"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from abalone.settings import REGISTERED_MODELS

CHAMPION, PREVIOUS, ROLLED_BACK = "champion", "previous", "rolled_back"
PAGE = 100


def holder(task: str, alias: str) -> Any:
    """The model version that holds an alias, or None."""
    client, name = MlflowClient(), REGISTERED_MODELS[task]
    # Not get_model_version_by_alias: its error is the same for no alias and for no answer.
    aliases = [model.aliases for model in client.search_registered_models(f"name = '{name}'") if alias in model.aliases]
    return client.get_model_version(name, aliases[0][alias]) if aliases else None


def versions(task: str) -> list[Any]:
    """All versions of a task's registered model."""
    return list(all_pages(MlflowClient().search_model_versions, f"name = '{REGISTERED_MODELS[task]}'"))


def rolled_back(versions: Sequence[Any]) -> dict[tuple[str, str], str]:
    """Split and score of versions that were rolled back, which no version nor run may bring back; to their number."""
    return {(v.tags.get("split"), v.tags.get("score")): v.version for v in versions if ROLLED_BACK in v.tags}


def all_pages(search: Callable[..., Any], *query: Any) -> Iterator[Any]:
    """All results of one of MLflow's searches, which give them in pages."""
    token = None
    while True:
        page = search(*query, max_results=PAGE, page_token=token)
        yield from page
        if not (token := page.token):
            return


def set_alias(client: MlflowClient, name: str, alias: str, version: Any) -> None:
    for attempt in range(ATTEMPTS):
        try:
            return client.set_registered_model_alias(name, alias, str(version))
        except MlflowException:  # two first settings at once: the database refuses one of them
            if attempt == ATTEMPTS - 1:
                raise


ATTEMPTS = 20
