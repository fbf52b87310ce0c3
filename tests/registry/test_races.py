"""A promotion while somebody deletes what it works with."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_store import (
    CLASSIFIER,
    PROMOTION_PAGE,
    candidate,
    experiment_id,
    promote_one,
    replace_champion,
    version_with,
)
from stores import copy_store, filling

from abalone.registry import decision, promotion
from abalone.registry.champion import Incomparable
from abalone.registry.decision import decide
from abalone.registry.promotion import register_champion


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with two champions, one after the other, and a better candidate."""
    folder = tmp_path_factory.mktemp("champions")
    with filling(folder, empty_database):
        replace_champion()
        candidate("third", 0.8)
    return folder


@pytest.fixture
def client(filled, store, own_folder) -> MlflowClient:
    copy_store(filled, own_folder)
    return MlflowClient()


def test_a_champion_that_is_deleted_before_it_is_replaced_does_not_keep_its_successor_from_the_alias(client):
    decided = decide("classification", experiment_id())
    client.delete_model_version(CLASSIFIER, "2")
    assert register_champion(decided, "run", PROMOTION_PAGE).promotes
    assert client.get_registered_model(CLASSIFIER).aliases == {"champion": 3, "previous": 1}


def test_a_champion_that_is_deleted_while_it_is_compared_is_replaced(client, monkeypatch):
    compare = decision._compare

    def delete_and_compare(task, challenger, champion):
        if champion.version == 2:
            client.delete_model_version(CLASSIFIER, "2")
            raise Incomparable("its files are gone")
        return compare(task, challenger, champion)

    monkeypatch.setattr(decision, "_compare", delete_and_compare)
    assert promote_one().reason.startswith("the first champion")
    assert version_with("champion").version == 3


def test_a_champion_that_is_deleted_between_two_writes_does_not_either(client, monkeypatch):
    set_alias = promotion.set_alias

    def delete_and_set(client, name, alias, version):
        if alias == "previous":
            client.delete_model_version(CLASSIFIER, "2")
        return set_alias(client, name, alias, version)

    monkeypatch.setattr(promotion, "set_alias", delete_and_set)
    assert promote_one().promotes
    assert client.get_registered_model(CLASSIFIER).aliases == {"champion": 3, "previous": 1}
    assert client.get_run(version_with("champion").run_id).info.run_name == "third"
