"""Rollback: the previous champion comes back, and what was rolled back is not promoted again."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_store import CLASSIFIER, candidate, promote_one, refusals, replace_champion, say_nothing, version_with
from stores import copy_store, filling

from abalone.registry.rollback import rollback
from abalone.registry.versions import versions
from abalone.settings import UserError

WRITES = (
    "set_registered_model_tag",
    "set_model_version_tag",
    "set_registered_model_alias",
    "delete_model_version_tag",
    "delete_registered_model_tag",
)


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store in which one champion has replaced another."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        replace_champion()
    return folder


@pytest.fixture
def replaced(filled, client, own_folder) -> MlflowClient:
    """Client of a store in which one champion has replaced another."""
    copy_store(filled, own_folder)
    return client


def test_a_rollback_restores_the_previous_champion_and_a_second_one_undoes_it(replaced):
    said = []
    rollback(("classification",), said.append)
    assert "version 1 is champion again; 2 is previous" in said[0]
    assert (version_with("champion").version, version_with("previous").version) == (1, 2)
    rollback(("classification",), said.append)
    assert (version_with("champion").version, version_with("previous").version) == (2, 1)
    assert not promote_one().promotes
    assert all("rolled_back" not in version.tags for version in versions("classification"))


def test_neither_a_rolled_back_run_nor_one_with_the_same_score_is_promoted_again(replaced):
    rollback(("classification",), say_nothing)
    candidate("twin", 0.6)
    decision = promote_one()
    assert not decision.promotes and version_with("champion").version == 1
    assert "rolled back" in refusals(decision)["second"] and "rolled back" in refusals(decision)["twin"]
    candidate("third", 0.7)
    assert promote_one().promotes and version_with("previous").version == 1


def test_rollback_without_a_previous_champion_changes_nothing(client):
    candidate("only", 0.5)
    with pytest.raises(UserError, match="no version with the alias champion"):
        rollback(("classification",), say_nothing)
    promote_one()
    with pytest.raises(UserError, match="no version with the alias previous"):
        rollback(("classification",), say_nothing)
    assert version_with("champion").version == 1 and version_with("champion").tags.get("rolled_back") is None


class Killed(BaseException):
    """Ends a rollback between two of its writes."""


def rollback_killed_after(writes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Roll back in a process that is killed after its first writes to the registry."""
    done = []

    def mortal(write):
        def write_or_die(client, *arguments):
            if len(done) == writes:
                raise Killed
            done.append(write)
            return write(client, *arguments)

        return write_or_die

    with monkeypatch.context() as patch, pytest.raises(Killed):
        for name in WRITES:
            patch.setattr(MlflowClient, name, mortal(getattr(MlflowClient, name)))
        rollback(("classification",), say_nothing)


def aliases() -> tuple[int, int]:
    return version_with("champion").version, version_with("previous").version


@pytest.mark.parametrize("writes", range(5))
def test_a_rollback_that_was_killed_is_completed_by_the_next_one_and_can_be_undone(replaced, monkeypatch, writes):
    rollback_killed_after(writes, monkeypatch)
    assert version_with("champion").version in (1, 2), "there is a champion at any time"
    rollback(("classification",), say_nothing)
    assert aliases() == (1, 2) and marked() == [2]
    rollback_killed_after(writes, monkeypatch)
    rollback(("classification",), say_nothing)
    assert aliases() == (2, 1) and marked() == []


def marked() -> list[int]:
    return [version.version for version in versions("classification") if "rolled_back" in version.tags]


def test_a_promotion_after_a_rollback_that_was_killed_can_be_rolled_back(replaced, monkeypatch):
    rollback_killed_after(3, monkeypatch)
    candidate("third", 0.8)
    promote_one()
    assert aliases() == (3, 1)
    rollback(("classification",), say_nothing)
    assert aliases() == (1, 3)


def test_a_champion_that_is_its_own_previous_version_is_not_rolled_back(client):
    candidate("only", 0.5)
    promote_one()
    client.set_registered_model_alias(CLASSIFIER, "previous", "1")
    with pytest.raises(UserError, match="no version before version 1; nothing to roll back"):
        rollback(("classification",), say_nothing)
    assert marked() == []


def test_a_rollback_to_a_version_that_is_deleted_meanwhile_leaves_the_champion_as_it_is(replaced, monkeypatch):
    mark = MlflowClient.set_registered_model_tag

    def mark_and_delete(client, *arguments):
        mark(client, *arguments)
        client.delete_model_version(CLASSIFIER, "1")

    with monkeypatch.context() as patch, pytest.raises(UserError, match="no version 1 any more"):
        patch.setattr(MlflowClient, "set_registered_model_tag", mark_and_delete)
        rollback(("classification",), say_nothing)
    assert replaced.get_registered_model(CLASSIFIER).aliases == {"champion": 2}
    assert marked() == [] and "rolling_back" not in replaced.get_registered_model(CLASSIFIER).tags
