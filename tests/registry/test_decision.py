"""How the best candidate is compared with the champion, and what ``force`` and ``min_improvement`` change."""

from __future__ import annotations

import math

import mlflow
import pytest
from mlflow import MlflowClient
from registry_store import (
    CLASSIFIER,
    candidate,
    make_unsealed,
    model_folder,
    model_id_of,
    promote_one,
    refusals,
    rename_package,
    replace_in,
    split_of,
    version_with,
)

from abalone.data.reading import SHIPPED_FILE
from abalone.evaluation.scores import scores
from abalone.registry.candidates import validation_rows
from abalone.registry.decision import Decision
from abalone.registry.promotion import promote
from abalone.settings import UserError, load_settings
from abalone.stages.stage import run_stage


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


def test_a_better_run_replaces_the_champion_which_becomes_previous(client):
    candidate("first", 0.4, task="regression")
    promote_one("regression")
    candidate("second", 0.6, task="regression")
    decision = promote_one("regression")
    assert decision.promotes and "within the noise" not in decision.reason
    assert version_with("champion", "regression").version == 2
    assert version_with("previous", "regression").version == 1


@pytest.mark.parametrize("skill", [0.5, 0.4], ids=["equal", "worse"])
def test_a_run_that_is_not_better_is_not_promoted(client, champion, skill):
    client.delete_run(champion)  # so that it is no candidate itself
    candidate("second", skill)
    decision = promote_one()
    assert not decision.promotes and "not better than the champion: log_loss +" in decision.reason
    assert version_with("champion").version == 1


def test_an_improvement_inside_the_noise_is_promoted_and_reported_as_such(client):
    candidate("first", 0.5, noise=0.3)
    promote_one()
    candidate("second", 0.5, noise=0.298, draw=1)
    decision = promote_one(dry_run=True)
    assert decision.promotes and "within the noise" in decision.reason and "95 % interval" in decision.reason
    kept = promote_one(min_improvement=0.1)
    assert not kept.promotes and "better by less than min_improvement=0.1, within the noise" in kept.reason
    assert version_with("champion").version == 1
    assert promote_one().promotes and version_with("champion").version == 2


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_an_invalid_min_improvement_is_refused(client, value):
    with pytest.raises(UserError, match="min_improvement"):
        promote_one(min_improvement=value)


def test_a_dry_run_decides_but_leaves_the_registry_alone(client):
    candidate("only", 0.5)
    said = []
    promote(("classification",), said.append, dry_run=True)
    assert "would be promoted (dry run)" in said[0]
    assert not client.search_registered_models()


def test_a_champion_that_was_trained_on_the_rows_of_the_split_is_left_to_force(champion):
    split = split_of(candidate("new", 0.6, seed=1))
    decision = promote_one(split=split)
    assert not decision.promotes and version_with("champion").version == 1
    assert "211 of the 418 validation rows of this split trained version 1" in decision.reason
    assert "force" in decision.reason and "other rows" in refusals(decision)["champion"]
    assert promote_one(split=split, force=True).promotes and version_with("champion").version == 2


@pytest.fixture
def two_files(own_folder) -> tuple[str, str]:
    """The data set in two files that share no row."""
    lines = SHIPPED_FILE.read_text().splitlines(keepends=True)
    for name, part in (("a.data", lines[:2000]), ("b.data", lines[2000:])):
        (own_folder / name).write_text("".join(part))
    return "a.data", "b.data"


def train_and_promote(data: str) -> Decision:
    result = run_stage("encode", load_settings("encode", {"epochs": 3, "data": data}))
    return promote_one(split=split_of(result.run_id))


def test_a_champion_of_other_data_is_scored_again_on_the_rows_of_the_split_from_any_folder(
    client, two_files, monkeypatch, tmp_path_factory
):
    train_and_promote(two_files[0])
    result = run_stage("encode", load_settings("encode", {"epochs": 3, "data": two_files[1]}))
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    decision = promote_one(split=split_of(result.run_id))
    rows = validation_rows(decision.challenger.run_id)
    again = mlflow.pyfunc.load_model(f"models:/{CLASSIFIER}/1").predict(rows)["probability_old"].to_numpy()
    difference = decision.challenger.score - scores("classification", rows["Rings"].to_numpy(), again)["log_loss"]
    assert f"log_loss {difference:+.5f} against the champion (95 % interval" in decision.reason
    assert decision.promotes == (difference < 0)


def test_a_champion_whose_data_file_has_changed_is_left_to_force(client, two_files, own_folder):
    train_and_promote(two_files[0])
    with (own_folder / two_files[0]).open("a") as file:
        file.write(SHIPPED_FILE.read_text().splitlines()[-1])
    decision = train_and_promote(two_files[1])
    assert not decision.promotes and "version 1 have changed since" in decision.reason


@pytest.mark.parametrize("seed", [0, 1], ids=["same split", "another split"])
def test_a_champion_that_cannot_be_loaded_is_replaced_even_by_a_weaker_run(champion, seed):
    make_unsealed(model_folder(model_id_of(champion)))
    candidate("weaker", 0.3, seed=seed)
    decision = promote_one(min_improvement=0.1)
    assert decision.promotes and decision.challenger.name == "weaker"
    assert decision.reason.startswith(
        "version 1, the champion, cannot be loaded (ImportError: it was logged by an older"
    )
    assert (version_with("champion").version, version_with("previous").version) == (2, 1)
    assert decision.reason in version_with("champion").description


def test_a_champion_that_cannot_score_is_replaced(champion):
    package = rename_package(model_folder(model_id_of(champion)), "abalone_model_that_fails")
    replace_in(package / "scorer.py", "checked = check", "checked = self.gone")
    candidate("weaker", 0.3)
    decision = promote_one()
    assert decision.promotes
    assert decision.reason.startswith("version 1, the champion, cannot score rows (AttributeError: 'Scorer' object has")


@pytest.mark.parametrize("seed", [0, 1], ids=["same split", "another split"])
def test_a_champion_whose_files_cannot_be_fetched_is_left_to_force(champion, seed):
    folder = model_folder(model_id_of(champion))
    folder.rename(folder.with_name("away"))
    split = split_of(candidate("better", 0.6, seed=seed))
    decision = promote_one(split=split)
    assert not decision.promotes and version_with("champion").version == 1
    assert "it cannot be compared with the champion: version 1 cannot be fetched (" in decision.reason
    assert decision.reason.endswith("; give -P force=true to promote it all the same")
    forced = promote_one(split=split, force=True)
    assert forced.promotes and version_with("champion").version == 2
    assert forced.reason.endswith("; promoted by -P force=true")
