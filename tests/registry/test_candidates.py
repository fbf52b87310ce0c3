"""Which runs are candidates, what the gate asks of them, and why the others are refused."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from registry_store import (
    candidate,
    make_unsealed,
    model_folder,
    model_id_of,
    package_of,
    promote_one,
    refusals,
    rename_package,
    say_nothing,
    version_with,
)
from stores import copy_store, filling

from abalone.registry.decision import Decision
from abalone.registry.promotion import NoCandidate, promote
from abalone.tracking.runs import RunOptions


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


FLAWS = [
    ({"has_model": False}, "no model"),
    ({"metrics": {"val/log_loss": None}}, "no val/log_loss"),
    ({"metrics": {"val/log_loss": math.nan}}, "val/log_loss is not finite"),
    ({"metrics": {"val/log_loss": -math.inf}}, "val/log_loss is not finite"),
    ({"metrics": {"val/log_loss": 0.68}}, "not 5% better than the baseline"),
    ({"metrics": {"baseline/val_log_loss": None}}, "not 5% better than the baseline"),
    ({"tags": {"split": ""}}, "no fingerprint"),
    ({"tags": {"split": "another"}}, "other rows"),
]


@pytest.fixture(scope="module")
def decision_about_flaws(tmp_path_factory, empty_database) -> Decision:
    """The outcome of a promotion among runs with a flaw, each by its name, and a sound one."""
    with filling(tmp_path_factory.mktemp("flaws"), empty_database):
        for flaw, _ in FLAWS:
            candidate(str(flaw), 0.9, **flaw)
        candidate("sound", 0.3)
        return promote_one()


@pytest.mark.slow
@pytest.mark.parametrize("flaw, reason", FLAWS, ids=lambda value: value if isinstance(value, str) else "")
def test_a_run_with_a_flaw_is_refused_with_its_reason(decision_about_flaws, flaw, reason):
    assert decision_about_flaws.challenger.name == "sound"
    assert reason in refusals(decision_about_flaws)[str(flaw)]


@pytest.fixture(scope="module")
def filled(tmp_path_factory, empty_database) -> tuple[Path, str]:
    """Folder of a store with a run that is about to be damaged and a weaker sound one, and the id of the first."""
    folder = tmp_path_factory.mktemp("candidates")
    with filling(folder, empty_database):
        run_id = candidate("damaged", 0.9)
        candidate("sound", 0.3)
    return folder, run_id


@pytest.fixture
def damaged(filled, store, own_folder) -> str:
    """Id of a run that a test damages; beside it, there is a weaker sound one."""
    folder, run_id = filled
    copy_store(folder, own_folder)
    return run_id


def test_a_run_that_did_not_finish_is_refused(client, damaged):
    client.set_terminated(damaged, "KILLED")
    assert refusals(promote_one()) == {"sound": "", "damaged": "status KILLED"}


def test_a_run_whose_weights_are_lost_is_refused(damaged):
    (model_folder(model_id_of(damaged)) / "weights.pt").unlink()
    decision = promote_one()
    assert decision.challenger.name == "sound"
    expected = "has other files than were recorded (removed weights.pt), so it was not loaded"
    assert refusals(decision)["damaged"] == expected


def test_a_run_whose_predictions_are_lost_is_refused(damaged):
    [folder] = (path for path in Path("mlruns").rglob("predictions") if damaged in str(path))
    shutil.rmtree(folder)
    decision = promote_one()
    assert decision.challenger.name == "sound"
    assert refusals(decision)["damaged"].startswith("its validation predictions cannot be loaded (")


def test_a_run_whose_model_was_logged_by_an_older_version_is_refused(damaged):
    make_unsealed(model_folder(model_id_of(damaged)))
    decision = promote_one()
    assert decision.promotes and decision.challenger.name == "sound"
    assert refusals(decision)["damaged"].startswith("cannot be loaded (ImportError: it was logged by an older version")


def test_a_run_whose_models_files_are_gone_is_refused(damaged):
    shutil.rmtree(model_folder(model_id_of(damaged)))
    decision = promote_one()
    assert decision.challenger.name == "sound"
    assert refusals(decision)["damaged"].startswith("cannot be fetched (")


def test_damaged_code_does_not_spoil_the_next_candidate_of_the_same_version(client):
    damaged = model_folder(model_id_of(candidate("damaged", 0.9)))
    sound = model_folder(model_id_of(candidate("sound", 0.3)))
    for folder in (damaged, sound):
        rename_package(folder, "abalone_model_of_candidates")
    (package_of(damaged) / "networks.py").unlink()
    decision = promote_one()
    assert decision.promotes and decision.challenger.name == "sound"
    assert "abalone_model_of_candidates.networks" in refusals(decision)["damaged"]


def test_with_no_model_that_works_there_is_no_candidate(client):
    for name in ("first", "second"):
        make_unsealed(model_folder(model_id_of(candidate(name, 0.6))))
    with pytest.raises(NoCandidate, match=r"experiment 'abalone' \(2 runs refused\)"):
        promote_one(options=RunOptions(experiment_name="abalone"))
    assert not client.search_registered_models()


def test_runs_of_the_other_task_are_no_candidates(client):
    candidate("rings", 0.9, task="regression")
    candidate("sound", 0.3)
    promote_one()
    assert set(refusals(promote_one())) == {"sound"}


def test_a_run_without_a_test_score_can_win(client):
    candidate("untested", 0.6, metrics={"test/log_loss": None})
    assert promote_one().promotes and "test/log_loss" not in version_with("champion").tags


def test_without_candidates_it_names_the_experiments_that_have_some_and_changes_nothing(client):
    candidate("elsewhere", 0.5, experiment="shells")
    with pytest.raises(NoCandidate, match=r"experiment 'abalone' .*shells \(1 runs\).*-P experiment=NAME"):
        promote_one(options=RunOptions(experiment_name="abalone"))
    with pytest.raises(NoCandidate, match=r"no experiment 'typo'.*shells"):
        promote_one(experiment="typo")
    with pytest.raises(NoCandidate, match="regression runs that can be promoted are in: no other experiment, so"):
        promote(("classification", "regression"), say_nothing, experiment="shells")
    assert not client.search_registered_models() and client.get_experiment_by_name("typo") is None
    assert promote_one(experiment="shells").promotes


def test_experiments_whose_runs_fail_the_gate_are_not_recommended(client):
    candidate("modelless", 0.6, has_model=False)
    candidate("weak", 0.01, experiment="elsewhere")
    with pytest.raises(NoCandidate, match="no other experiment") as error:
        promote_one(experiment="abalone")
    assert "-P experiment" not in str(error.value)
