"""A champion with a history: its run deleted or collected, its alias set by hand, its predictions lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from registry_store import (
    CLASSIFIER,
    candidate,
    delete_for_good,
    model_folder,
    model_id_of,
    promote_one,
    refusals,
    register_by_hand,
    say_nothing,
    split_of,
    version_with,
)
from stores import copy_store, filling

from abalone.evaluation.scores import scores
from abalone.registry.candidates import validation_rows
from abalone.registry.champion import find_champion
from abalone.registry.decision import Decision
from abalone.registry.rollback import rollback


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, dict[str, str]]:
    """Folder of a store with two candidates, and the ids of their runs by name."""
    folder = tmp_path_factory.mktemp("candidates")
    with filling(folder, empty_database):
        run_ids = {name: candidate(name, skill) for name, skill in (("good", 0.5), ("better", 0.6))}
    return folder, run_ids


@pytest.fixture
def candidates(filled, client, own_folder) -> dict[str, str]:
    """Ids of the runs of two candidates, ``good`` and ``better``."""
    folder, run_ids = filled
    copy_store(folder, own_folder)
    return run_ids


def lose_predictions(run_id: str) -> None:
    [folder] = (path for path in Path("mlruns").rglob("predictions") if run_id in str(path))
    shutil.rmtree(folder)


def assert_scored_again(decision: Decision) -> None:
    """The champion is an untrained model, so that its planted predictions and its own differ."""
    rows = validation_rows(decision.challenger.run_id)
    model = mlflow.pyfunc.load_model(f"models:/{CLASSIFIER}/{decision.champion.version}")
    own = scores("classification", rows["Rings"].to_numpy(), model.predict(rows)["probability_old"].to_numpy())
    difference = decision.challenger.score - own["log_loss"]
    assert f"log_loss {difference:+.5f} against the champion (95 % interval" in decision.reason


def test_a_champion_whose_alias_was_set_by_hand_is_compared_like_any_other(candidates):
    register_by_hand(candidates["better"])
    assert find_champion("classification").split == split_of(candidates["better"])
    assert promote_one().reason == "it is already the champion; nothing changes"
    candidate("best", 0.7)
    decision = promote_one()
    assert decision.promotes and decision.reason.startswith("better than the champion")


def test_a_version_that_was_registered_by_its_folder_is_traced_to_its_run(client, candidates):
    run_id = candidates["better"]
    client.create_registered_model(CLASSIFIER)
    version = client.create_model_version(CLASSIFIER, str(model_folder(model_id_of(run_id))))
    assert not version.run_id
    client.set_registered_model_alias(CLASSIFIER, "champion", version.version)
    assert find_champion("classification").run_id == run_id


@pytest.mark.parametrize("by_hand", [False, True], ids=["promoted", "by hand"])
def test_a_champion_whose_run_was_collected_is_scored_again(candidates, by_hand):
    run_id = candidates["better"]
    if by_hand:
        register_by_hand(run_id)
    else:
        promote_one()
    delete_for_good(run_id)
    assert_scored_again(promote_one(dry_run=True))


def test_a_champion_whose_predictions_are_lost_is_scored_again(client, candidates):
    run_id = candidates["better"]
    promote_one()
    lose_predictions(run_id)
    client.delete_run(run_id)
    assert_scored_again(promote_one())


def test_a_champion_that_was_refitted_on_the_validation_rows_is_not_scored_on_them(client, candidates):
    run_id = candidates["better"]
    client.log_param(run_id, "refit", "true")
    promote_one()
    lose_predictions(run_id)
    candidate("best", 0.7)
    decision = promote_one()
    assert not decision.promotes
    assert "version 1 was refitted on these validation rows, and its predictions from before" in decision.reason


def test_a_champion_of_which_nothing_is_known_is_left_to_force_with_the_true_reason(client, candidates):
    run_id = candidates["good"]
    model_id = model_id_of(run_id)
    register_by_hand(run_id)
    delete_for_good(run_id)
    client.delete_logged_model(model_id)  # its files stay until they are collected
    decision = promote_one()
    assert not decision.promotes
    assert "neither version 1 nor its run or logged model says which rows trained it" in decision.reason
    assert promote_one(force=True).promotes


def test_a_champion_of_the_other_task_is_left_to_force(client, candidates):
    run_id = candidate("rings", 0.6, task="regression")
    version = mlflow.register_model(f"models:/{model_id_of(run_id)}", CLASSIFIER)
    client.set_registered_model_alias(CLASSIFIER, "champion", version.version)
    decision = promote_one()
    assert not decision.promotes
    assert (
        "version 1 answers with rings, age_years, outside_training_range, not with probability_old" in decision.reason
    )


def test_a_champion_by_hand_that_was_rolled_back_is_not_promoted_again(client):
    candidate("first", 0.4)
    promote_one()
    run_id = candidate("by hand", 0.6)
    client.set_registered_model_alias(CLASSIFIER, "previous", 1)
    register_by_hand(run_id)
    rollback(("classification",), say_nothing)
    decision = promote_one()
    assert version_with("champion").version == 1 and not decision.promotes
    assert "rolled back" in refusals(decision)["by hand"]
