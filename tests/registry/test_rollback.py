"""Rollback: the previous champion comes back, and what was rolled back is not promoted again."""

from __future__ import annotations

import pytest
from mlflow import MlflowClient
from registry_store import PROMOTION_PAGE, candidate, experiment_id, promote_one, refusals, say_nothing, version_with

from abalone.registry.decision import decide
from abalone.registry.promotion import register_champion
from abalone.registry.rollback import rollback
from abalone.registry.versions import versions
from abalone.settings import UserError


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


def test_a_rollback_restores_the_previous_champion_and_a_second_one_undoes_it(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        promote_one()
    said = []
    rollback(("classification",), said.append)
    assert "version 1 is champion again; 2 is previous" in said[0]
    assert (version_with("champion").version, version_with("previous").version) == (1, 2)
    rollback(("classification",), said.append)
    assert (version_with("champion").version, version_with("previous").version) == (2, 1)
    assert not promote_one().promotes
    assert all("rolled_back" not in version.tags for version in versions("classification"))


def test_neither_a_rolled_back_run_nor_one_with_the_same_score_is_promoted_again(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        promote_one()
    rollback(("classification",), say_nothing)
    candidate("twin", 0.6)
    decision = promote_one()
    assert not decision.promotes and version_with("champion").version == 1
    assert "rolled back" in refusals(decision)["second"] and "rolled back" in refusals(decision)["twin"]
    candidate("third", 0.7)
    assert promote_one().promotes and version_with("previous").version == 1


def test_a_second_version_of_a_rolled_back_run_is_not_promoted_either(client):
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        decision = decide("classification", experiment_id())
        register_champion(decision, decision.challenger.run_id, PROMOTION_PAGE)
    register_champion(
        decision, decision.challenger.run_id, PROMOTION_PAGE
    )  # as another process at the same time does, or one that was killed
    rollback(("classification",), say_nothing)
    candidate("third", 0.5)
    assert promote_one().promotes and version_with("champion").version == 4


def test_rollback_without_a_previous_champion_changes_nothing(client):
    candidate("only", 0.5)
    with pytest.raises(UserError, match="no version with the alias champion"):
        rollback(("classification",), say_nothing)
    promote_one()
    with pytest.raises(UserError, match="no version with the alias previous"):
        rollback(("classification",), say_nothing)
    assert version_with("champion").version == 1 and version_with("champion").tags.get("rolled_back") is None
