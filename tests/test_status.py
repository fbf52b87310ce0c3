"""``status``: what it finds in a store, what it proposes, and that it writes nothing."""

from __future__ import annotations

import json

import mlflow
import pytest
from mlflow import MlflowClient
from registry_store import candidate, promote_one, say_nothing, split_of, version_with

from abalone.registry.rollback import rollback
from abalone.settings import STAGES, UserError
from abalone.status import read_status, status_text, study_of_winner
from abalone.tracking.lookup import store_name
from abalone.tracking.run_logging import Scores, log_batch
from abalone.tracking.runs import RunOptions, tracked_run


def leave_run(name: str, tags: dict[str, str], metrics: dict[str, float] | None = None) -> str:
    """Leave a finished run in the experiment, and return its id."""
    with tracked_run(name, tags) as run_id:
        log_batch(run_id, final=[Scores(metrics or {})])
    return run_id


@pytest.mark.parametrize("uri", ["sqlite:///missing.db", "missing-folder/mlruns"])
def test_a_missing_store_is_reported_and_not_created(own_folder, monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    try:
        status = read_status()
    finally:
        mlflow.set_tracking_uri(None)
    assert status["experiment"] is None
    assert status["next"] == ["python -m abalone main", "python -m abalone classify"]
    assert status_text(status).startswith("Nothing has been run yet")
    assert not list(own_folder.iterdir())


def test_an_empty_store_gets_no_experiment_and_no_run(store):
    status = read_status("mine")
    assert status["experiment"] is None and status["champions"] == {"classification": None, "regression": None}
    assert status["next"][0] == "python -m abalone main --experiment-name mine"
    assert status_text(status).startswith("Nothing has been run yet")
    [only] = MlflowClient().search_experiments()
    assert only.name == "Default"
    json.dumps(status)


def test_stages_are_listed_in_the_guides_order_the_latest_run_of_each(store):
    first = leave_run("encode", {"stage": "encode"}, {"test/accuracy": 0.7})
    leave_run("classify", {"stage": "classify"}, {"test/accuracy": 0.6, "accuracy/test": 0.1})
    second = leave_run("again", {"stage": "encode"}, {"test/accuracy": 0.8})
    with pytest.raises(ValueError), tracked_run("regress", {"stage": "regress"}):
        raise ValueError("no")
    status = read_status()
    assert [stage["stage"] for stage in status["stages"]] == ["classify", "encode", "regress"]
    classify, encode, regress = status["stages"]
    assert encode["run_id"] == second != first and second in encode["address"]
    assert classify["scores"] == {"test/accuracy": 0.6}, "no curves"
    assert regress["status"] == "FAILED"
    text = status_text(status)
    assert "| encode   | 0.8000" in text and "failed" in text
    assert "Not run yet: deepen, regularize, dropout, rings." in text
    assert status["next"][0] == "python -m abalone deepen"


def test_best_is_by_validation_of_what_promotion_compares(store):
    candidate("good", 0.6)
    candidate("better", 0.7, test=0.9)
    candidate("without a model", 0.9, has_model=False)
    other = candidate("other split", 0.9, seed=1)
    leave_run("trial", {"stage": "trial", "task": "classification"}, {"val/log_loss": 0.001})
    status = read_status()
    best = status["best"]["classification"]
    assert (best["name"], best["metric"], best["test"]) == ("better", "log_loss", 0.9)
    assert best["split_reason"] == "the one with the most candidates"
    assert [count["split"] for count in best["other_splits"]] == [split_of(other)]
    text = status_text(status)
    assert f"-P experiment=abalone -P task=classification -P split={split_of(other)}" in text
    assert status["best"]["regression"] is None
    assert "python -m abalone promote" in status["next"]
    promote_one(split=split_of(other))
    best = read_status()["best"]["classification"]
    assert (best["name"], best["split_reason"]) == ("other split", "that of the champion")


def test_a_deleted_experiment_is_reported_with_the_command_that_restores_it(store):
    leave_run("encode", {"stage": "encode"})
    MlflowClient().delete_experiment("1")
    with pytest.raises(
        UserError, match="'abalone' was deleted; restore it with: mlflow experiments restore --experiment-id 1;"
    ):
        read_status()


def test_champions_say_since_when_also_after_a_rollback(store):
    candidate("first", 0.6)
    promote_one()
    candidate("second", 0.7)
    promote_one()
    champion = read_status()["champions"]["classification"]
    assert champion["version"] == 2 and champion["uri"] == "models:/abalone-classifier@champion"
    registered = version_with("previous").creation_timestamp / 1000
    rollback(("classification",), say_nothing, RunOptions())
    restored = read_status()["champions"]["classification"]
    assert restored["version"] == 1
    assert restored["since"] >= champion["since"], "the time of the rollback, not of the first promotion"
    assert registered > 0
    assert "| abalone-classifier | 1 " in status_text(read_status())


def test_a_study_is_listed_once_with_its_trials_and_a_running_one_without(store):
    tags = {"stage": "tune", "study": "s", "study.task": "regression", "study.base": "regress"}
    leave_run("tune", tags, {"trials/complete": 1, "best_value": 3.0})
    found = {"trials/complete": 4, "trials/pruned": 12, "trials/failed": 0, "best_value": 2.5}
    with tracked_run("tune", {**tags, "best.gamma": "0.9", "best.trial": "3"}) as run_id:
        with tracked_run("winner", {"stage": "tuned"}, RunOptions(nested=True)) as winner:
            pass
        log_batch(run_id, final=[Scores(found)])
    leave_run("tune", {**tags, "study": "new"})
    new, study = read_status()["studies"]
    assert new["study"] == "new" and new["trials"] is None
    assert study["trials"] == {"complete": 4, "pruned": 12, "failed": 0} and study["best_value"] == 2.5
    assert study["best"] == {"gamma": "0.9", "trial": "3"}
    assert study_of_winner(winner) == study
    assert "16 (12 pruned)" in status_text(read_status())


def test_when_nothing_is_missing_it_proposes_to_use_the_champions(store):
    for stage in (*STAGES, "rings"):
        leave_run(stage, {"stage": stage})
    candidate("good", 0.6)
    candidate("good", 0.6, task="regression")
    assert read_status()["next"] == ["python -m abalone promote", "python -m abalone tune --task classification"]
    promote_one()
    promote_one("regression")
    for task in ("classification", "regression"):
        leave_run("tune", {"stage": "tune", "study": task, "study.task": task})
    assert read_status()["next"] == ["python -m abalone report"]
    leave_run("report", {"stage": "report"})
    assert read_status()["next"] == ["python -m abalone predict --input rows.csv --output scored.csv"]


def test_the_password_of_a_store_is_not_shown(monkeypatch):
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "postgresql://me:secret@host/db")
    assert store_name() == "postgresql://me:***@host/db"
