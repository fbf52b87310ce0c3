"""The pages of versions, registered models and promotions: what they say first, and where they link to."""

from __future__ import annotations

from dataclasses import replace

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from registry_store import candidate, experiment_id, model_id_of, promote_one, runs_of, say_nothing, version_with

from abalone.data.origin import origin
from abalone.data.reading import read
from abalone.data.splitting import split
from abalone.evaluation.age_groups import group_by_age
from abalone.registry.decision import decide
from abalone.registry.pages import LONGEST_OUTCOME, champion_line, linked_rows
from abalone.registry.promoted_run import age_table, fitted_rows, learned_from, limits_text
from abalone.registry.promotion import promote
from abalone.registry.rollback import rollback
from abalone.settings import REGISTERED_MODELS
from abalone.tracking.addresses import link, logged_model_path, run_path, version_path
from abalone.tracking.run_logging import log_dataset, log_files
from abalone.tracking.runs import tracked_run

REGRESSOR = REGISTERED_MODELS["regression"]
MAX_DESCRIPTION = 5000  # characters, of a registered model or a version in PostgreSQL


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


def add_test_predictions(run_id: str, error: float) -> None:
    """Leave predictions of the test rows whose errors on old animals are all the same, and 0 on the others."""
    dataset = read()
    rings = dataset.frame["Rings"].to_numpy()[split(dataset, 0).test]
    predicted = rings + np.where(rings >= 12, error, 0.0)
    table = pd.DataFrame({"Rings": rings, "predicted_rings": predicted})
    log_files(run_id, texts={}, figures={}, tables={"predictions/test.json": table})


def described(task: str = "regression") -> str:
    return MlflowClient().get_registered_model(REGISTERED_MODELS[task]).description


def test_a_version_links_its_run_model_and_promotion_and_says_how_far_off_it_is_by_age(client):
    run_id = candidate("only", 0.6, task="regression")
    add_test_predictions(run_id, -2.5)
    promote_one("regression")
    version = version_with("champion", "regression")
    [promotion] = runs_of("promote")
    experiment = experiment_id()
    for path in (
        run_path(experiment, run_id),
        run_path(experiment, promotion.info.run_id),
        logged_model_path(experiment, model_id_of(run_id)),
    ):
        assert f"]({path})" in version.description
    assert f"`{run_id}`" not in version.description
    first, table, *_ = version.description.split("\n\n")
    assert "it predicts 2.5 rings too few on average, and is off by 2.5." in first
    young, _, old = table.splitlines()[2:]
    assert [cell.strip() for cell in young.split("|")[1:3]] == ["young", "below 8"]
    assert [cell.strip() for cell in old.split("|")[4:6]] == ["-2.50", "2.50"]
    assert version.tags["limits"] in version.description
    assert len(version.description) < MAX_DESCRIPTION


def test_a_version_without_test_predictions_says_nothing_of_ages(client):
    candidate("only", 0.6)
    promote_one()
    version = version_with("champion")
    assert "limits" not in version.tags
    assert "test animals" not in version.description
    assert "Animals of more than 15 rings are rare" in described("classification")


def test_the_page_of_the_model_follows_the_champion(client):
    for skill, error in ((0.4, -3.0), (0.6, -1.5)):
        add_test_predictions(candidate("run", skill, task="regression"), error)
        promote_one("regression")
    page = described()
    assert f"now [version 2]({version_path(REGRESSOR, 2)})" in page
    assert f"The champion, [version 2]({version_path(REGRESSOR, 2)}): On " in page
    assert "1.5 rings too few" in page
    rollback(("regression",), say_nothing)
    page = described()
    assert f"now [version 1]({version_path(REGRESSOR, 1)})" in page
    assert "3.0 rings too few" in page and "1.5 rings too few" not in page
    assert len(page) < MAX_DESCRIPTION
    [run] = runs_of("rollback")
    assert f"[version 1]({version_path(REGRESSOR, 1)}) is champion again" in run.data.tags["mlflow.note.content"]


@pytest.mark.parametrize(
    "params, expected",
    [
        ({}, "1,670 training rows"),
        ({"refit": "false"}, "1,670 training rows"),
        (
            {"refit": "true"},
            "2,088 training and validation rows (validation scores are of a fit on the training rows alone)",
        ),
    ],
)
def test_the_rows_that_a_model_was_fitted_on_are_counted_from_its_run(client, params, expected):
    dataset = read()
    with tracked_run("fitted") as run_id:
        log_dataset(run_id, dataset, split(dataset, 0).parts(), origin(dataset))
        mlflow.log_params(params)
    assert fitted_rows(client.get_run(run_id)) == expected


def test_the_rows_of_a_run_without_its_data_sets_are_not_counted(client):
    with tracked_run("fitted") as run_id:
        pass
    run = client.get_run(run_id)
    assert fitted_rows(run) == "the training rows" and learned_from(run) == ""


def test_the_page_of_a_registered_model_names_the_file_that_its_champion_learned_from(client):
    read().frame.head(90).to_csv("mine.csv", index=False)
    own = read("mine.csv")
    best = candidate("own", 0.6, task="regression")
    log_dataset(best, own, {"train": np.arange(30), "validation": np.arange(30, 60)}, origin(own))
    promote_one("regression")
    assert "**Limits**: learned from 30 animals of mine.csv; not for other species" in described()
    shipped = read()
    better = candidate("shipped", 0.8, task="regression")
    log_dataset(better, shipped, split(shipped, 0).parts(), origin(shipped))
    promote_one("regression")
    assert "learned from 1,670 of the 4,177 blacklip abalone (*Haliotis rubra*) of Tasmania" in described()


def test_a_classifier_says_how_many_labels_are_right_by_age():
    rings = np.array([3, 9, 11, 12, 20])
    groups = group_by_age("classification", rings, np.array([0.1, 0.9, 0.9, 0.9, 0.1]))
    text = "Share of correct labels on test, by number of rings: 50% (12 and more), 50% (8 to 11), 100% (below 8)."
    assert limits_text(groups) == text
    header, _, *rows = age_table(groups).splitlines()
    assert header.split("|")[-2].strip() == "correct label"
    assert [row.split("|")[-2].strip() for row in rows] == ["100.0%", "50.0%", "50.0%"]


def test_without_old_animals_nothing_is_said_of_them():
    assert limits_text(group_by_age("regression", np.array([3, 9]), np.array([3.0, 9.0]))) == ""
    assert limits_text([]) == age_table([]) == ""


def test_the_page_of_a_promotion_answers_both_tasks_before_its_tables(client):
    runs = {
        "classification": candidate("labels", 0.6),
        "regression": candidate("numbers", 0.6, task="regression"),
    }
    said = []
    promote(tuple(runs), said.append)
    [run] = runs_of("promote")
    page = run.data.tags["mlflow.note.content"]
    answers = page.split("\n\n")
    for answer, (task, run_id) in zip(answers, runs.items()):
        name = REGISTERED_MODELS[task]
        assert answer.startswith(f"[{name}](#/models/{name}?workflowType=machine_learning): the best candidate is run")
        assert f"({run_path(experiment_id(), run_id)})**, **promoted**: the first champion" in answer
        assert answer.endswith(f"Champion: [version 1]({version_path(name, 1)}).")
    assert "| [labels](#/" in page
    assert "](#/" not in said[0], "a terminal shows no links"
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/decision.md") == page


def test_a_description_shortens_long_refusals_and_the_file_does_not(client):
    candidate("only", 0.3)
    decision = decide("classification", experiment_id())
    [only] = decision.candidates
    decision = replace(decision, candidates=(replace(only, refusal="x" * 200),))
    [full] = linked_rows(decision)
    [short] = linked_rows(decision, shown=10)
    assert full[-1].endswith("x" * 200)
    assert len(short[-1]) == LONGEST_OUTCOME + 1
    assert full[-1].startswith(short[-1].removesuffix("…"))


def test_the_champion_line_has_links_for_pages_only(client):
    run_id = candidate("only", 0.6)
    decision = promote_one()
    uri = "models:/abalone-classifier@champion"
    assert "](" not in champion_line(decision, "log_loss", uri)
    linked = champion_line(decision, "log_loss", uri, link)
    assert f"**[only]({run_path(experiment_id(), run_id)})**" in linked
    assert f"`{uri}`, [version 1]({version_path('abalone-classifier', 1)})." in linked
