"""Versions and aliases of the registered models."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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


class RegistryClient(MlflowClient):
    """MLflow's client without the request that it sends before each write, lest the model be one of its prompts."""

    def _raise_if_prompt(self, name: str) -> None:
        pass


@dataclass(frozen=True)
class Registered:
    """A registered model as the registry had it when it was read.

    Parameters
    ----------
    description : str
        Its page; empty if it does not exist.
    aliases : mapping of str to int
        Version by alias.
    tags : mapping of str to str
    versions : sequence of ModelVersion
        All of its versions.
    exists : bool
    """

    description: str = ""
    aliases: Mapping[str, int] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    versions: Sequence[Any] = ()
    exists: bool = False

    def holder(self, alias: str) -> Any:
        """Return the version that holds an alias, or None."""
        return self.version(self.aliases.get(alias, 0))

    def version(self, number: int) -> Any:
        """Return a version by its number, or None."""
        return next((version for version in self.versions if int(version.version) == number), None)


def read_registered(task: str) -> Registered:
    """Read the registered model of a task and all of its versions, in two requests."""
    model = _find_model(task)
    if model is None:
        return Registered()
    return Registered(
        description=model.description or "",
        aliases=_numbers(model.aliases),
        tags=model.tags,
        versions=versions(task),  # after the aliases, so that their versions are among them
        exists=True,
    )


def read_aliases(task: str) -> dict[str, int]:
    """Read the version of each alias of a task's registered model, in one request."""
    model = _find_model(task)
    return _numbers(model.aliases) if model else {}


def _numbers(aliases: Mapping[str, Any]) -> dict[str, int]:
    return {alias: int(version) for alias, version in aliases.items()}


def _find_model(task: str) -> Any:
    """The registered model of a task, or None."""
    # Not get_model_version_by_alias: it raises the same error for a missing alias and for a server that is down.
    return next(iter(MlflowClient().search_registered_models(f"name = '{REGISTERED_MODELS[task]}'")), None)


def holder(task: str, alias: str) -> Any:
    """Return the model version that holds an alias, or None."""
    model = _find_model(task)
    if model is None or alias not in model.aliases:
        return None
    return MlflowClient().get_model_version(model.name, model.aliases[alias])


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
