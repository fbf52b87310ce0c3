"""What a promotion writes: versions, aliases, pages and its own run, also beside another promotion."""

from __future__ import annotations

import json
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from registry_store import CLASSIFIER, PROMOTION_PAGE, candidate, experiment_id, promote_one, runs_of, version_with
from stores import copy_store, filling

from abalone.model.columns import RAW_COLUMNS
from abalone.registry.decision import Decision, decide
from abalone.registry.promotion import promote, register_champion
from abalone.registry.versions import versions
from abalone.settings import REGISTERED_MODELS


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, Decision]:
    """Folder of a store with two candidates of which one was promoted, and the decision."""
    folder = tmp_path_factory.mktemp("promoted")
    with filling(folder, empty_database):
        candidate("weak", 0.3, test=0.1)
        candidate("strong", 0.6, test=0.7)
        decision = promote_one(min_improvement=0.002)
    return folder, decision


@pytest.fixture
def promoted(filled, client, own_folder) -> Decision:
    """The decision in a store with two candidates of which one was promoted."""
    folder, decision = filled
    copy_store(folder, own_folder)
    return decision


@pytest.fixture(scope="module")
def filled_with_rivals(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with three candidates, each in an experiment of its own name."""
    folder = tmp_path_factory.mktemp("rivals")
    with filling(folder, empty_database):
        for name, skill in (("old", 0.3), ("good", 0.5), ("better", 0.7)):
            candidate(name, skill, experiment=name)
    return folder


@pytest.fixture
def rivals(filled_with_rivals, client, own_folder) -> MlflowClient:
    """Client of a store with three candidates, each in an experiment of its own name."""
    copy_store(filled_with_rivals, own_folder)
    return client


def test_the_best_by_validation_wins_and_its_version_says_why(client, promoted):
    version = version_with("champion")
    assert promoted.promotes and promoted.version == int(version.version) == 1
    run = client.get_run(version.run_id)
    assert run.info.run_name == "strong"
    for words in ("strong", "the first champion", "better than the baseline", "0.7000"):
        assert words in version.description
    assert float(version.tags["score"]) == run.data.metrics["val/log_loss"]
    assert (version.tags["split"], version.tags["dataset"]) == (run.data.tags["split"], run.data.tags["dataset"])
    assert version.tags["test/log_loss"] == "0.70000"


def test_the_signature_of_a_version_names_inputs_and_outputs(promoted):
    signature = mlflow.models.get_model_info(f"models:/{CLASSIFIER}@champion").signature
    assert signature.inputs.input_names() == list(RAW_COLUMNS)
    assert signature.outputs.input_names() == ["label", "probability_old", "outside_training_range"]
    version = version_with("champion")
    assert version.tags["signature"].startswith("Sex string, Length double, Diameter double, ")
    assert version.tags["signature"].endswith(
        ", Shell weight double → label string, probability_old double, outside_training_range string"
    )
    assert f"Signature: {version.tags['signature']}." in version.description


def test_the_page_of_the_registered_model_tells_a_stranger_how_to_use_it(client):
    for task, output in (("classification", "probability_old"), ("regression", "age_years")):
        candidate("run", 0.6, task=task)
        promote_one(task)
        page = client.get_registered_model(REGISTERED_MODELS[task]).description
        for words in ("Shell weight", "mm / 200", "g / 200", output, "load_model", "mlflow models serve", "Limits"):
            assert words in page, words
        assert "Shell weights" not in page  # the signature does not know it
        assert f"models:/{REGISTERED_MODELS[task]}@champion" in page


def test_a_promotion_is_a_run_with_a_table_of_all_candidates(promoted):
    [run] = runs_of("promote")
    assert run.info.status == "FINISHED" and run.data.tags["champion_classification"] == "1"
    assert "strong" in run.data.tags["mlflow.note.content"]
    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/decision_classification.json")
    assert [(row[0], row[-1]) for row in table["data"]] == [("strong", "**best**"), ("weak", "not the best")]
    assert json.loads(run.data.tags["mlflow.loggedArtifacts"])[0]["path"] == "decision_classification.json"


def test_a_description_of_many_candidates_stays_within_mlflows_limit(client):
    for number in range(12):
        candidate(f"{'x' * 200}{number}", 0.3, has_model=False)
    candidate("good", 0.5)
    promote_one()
    [run] = runs_of("promote")
    assert "and 3 more" in run.data.tags["mlflow.note.content"]
    full = mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/decision.md")
    assert full.count("refused: no model") == 12


def test_promoting_again_changes_nothing_and_says_so(client, promoted):
    before = client.get_registered_model(CLASSIFIER).last_updated_timestamp
    said = []
    [decision] = promote(("classification",), said.append)
    assert not decision.promotes and "already the champion; nothing changes" in said[0]
    assert len(client.search_model_versions(f"name = '{CLASSIFIER}'")) == 1
    assert client.get_registered_model(CLASSIFIER).last_updated_timestamp == before


def test_a_promotion_logs_its_options_and_the_gate(promoted):
    [run] = runs_of("promote")
    assert run.data.params == {
        "task": "classification",
        "experiment": "",
        "min_improvement": "0.002",
        "dry_run": "false",
        "force": "false",
        "split": "",
    }
    page = run.data.tags["mlflow.note.content"]
    assert page.index("*Gate*: what a run must pass") < page.index("| run")
    assert "at least 5% better on validation than the baseline" in page


@pytest.mark.parametrize("order", [("good", "better"), ("better", "good")])
@pytest.mark.parametrize("is_first", [True, False], ids=["first champion", "replaces one"])
def test_of_two_promotions_that_decided_at_the_same_time_the_better_wins(rivals, order, is_first):
    if not is_first:
        promote_one(experiment="old")
    decisions = {name: decide("classification", experiment_id(name)) for name in ("good", "better")}
    assert all(decision.promotes for decision in decisions.values())
    outcome = {name: register_champion(decisions[name], "run", PROMOTION_PAGE) for name in order}
    assert rivals.get_run(version_with("champion").run_id).info.run_name == "better"
    assert outcome["better"].promotes
    if order[0] == "better":
        assert not outcome["good"].promotes and "another promotion" in outcome["good"].reason
    if not is_first:
        assert version_with("previous").version == 1


def test_an_alias_that_another_promotion_sets_first_is_set_again(rivals):
    """The worse promotion sets the alias after the better one has read the registry for the last time."""
    decisions = {name: decide("classification", experiment_id(name)) for name in ("good", "better")}

    class SlowClient(MlflowClient):
        """Lets the better promotion do all of its work between the worse one's reading and writing."""

        is_overtaken = False

        def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
            if not self.is_overtaken:
                self.is_overtaken = True
                register_champion(decisions["better"], "run", PROMOTION_PAGE)
            super().set_registered_model_alias(name, alias, version)

    slow = SlowClient()
    assert not register_champion(decisions["good"], "run", PROMOTION_PAGE, slow).promotes
    assert slow.is_overtaken
    assert rivals.get_run(version_with("champion").run_id).info.run_name == "better"


def test_promotions_of_the_same_run_at_the_same_time_leave_one_version(client):
    candidate("old", 0.3)
    promote_one()
    candidate("new", 0.6)
    decision = decide("classification", experiment_id())
    others = []

    class SlowClient(MlflowClient):
        """Lets two other promotions register the run after this one has found no version of it."""

        def create_model_version(self, *arguments, **options):
            if not others:
                others.append(1)
                others.extend(register_champion(decision, "run", PROMOTION_PAGE, SlowClient()) for _ in range(2))
            return super().create_model_version(*arguments, **options)

    last = register_champion(decision, "run", PROMOTION_PAGE, SlowClient())
    assert [outcome.version for outcome in (*others[1:], last)] == [2, 2, 2]
    assert [version.version for version in versions("classification")] == [2, 1]
    assert (version_with("champion").version, version_with("previous").version) == (2, 1)


def test_a_version_that_a_killed_promotion_left_is_used_by_the_next_one(client):
    candidate("only", 0.6)

    class Mortal(MlflowClient):
        """Dies before it sets the alias."""

        def set_registered_model_alias(self, *arguments):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        register_champion(decide("classification", experiment_id()), "run", PROMOTION_PAGE, Mortal())
    assert promote_one().promotes
    assert [version.version for version in versions("classification")] == [version_with("champion").version] == [1]
