"""Which processes count as dead, and what happens to the runs that they left behind."""

from __future__ import annotations

import subprocess

import mlflow
import pytest
from helpers import process_tags_with
from mlflow import MlflowClient

from abalone.tracking.processes import close_orphans, may_live, process_tags


@pytest.fixture
def dead_pid() -> str:
    process = subprocess.Popen(["true"])
    process.wait()
    return str(process.pid)


def test_this_process_is_alive():
    assert may_live(process_tags())


def test_a_process_that_ended_is_dead(dead_pid):
    assert not may_live(process_tags_with(pid=dead_pid))


def test_an_earlier_process_with_the_same_pid_is_dead():
    assert not may_live(process_tags_with(start="1"))


def test_a_process_of_an_earlier_boot_is_dead():
    assert not may_live(process_tags_with(boot="another"))


def test_a_process_of_another_machine_cannot_be_checked(dead_pid):
    assert may_live(process_tags_with(host="another", pid=dead_pid))


def test_orphans_are_marked_failed_and_other_runs_are_left_alone(store, dead_pid):
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    dead = process_tags_with(pid=dead_pid)
    orphan = client.create_run(experiment_id, tags=dead).info.run_id
    own = client.create_run(experiment_id, tags=dead).info.run_id
    alive = client.create_run(experiment_id, tags=process_tags()).info.run_id
    untagged = client.create_run(experiment_id).info.run_id
    close_orphans(experiment_id, own)
    status = {run.info.run_id: run.info.status for run in client.search_runs([experiment_id])}
    assert status == {orphan: "FAILED", own: "RUNNING", alive: "RUNNING", untagged: "RUNNING"}
    assert "process was killed" in client.get_run(orphan).data.tags["error"]


def test_models_that_a_dead_process_left_pending_are_marked_failed_and_other_models_are_left_alone(store, dead_pid):
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    tags = {
        "orphan": process_tags_with(pid=dead_pid),
        "alive": process_tags(),
        "of another machine": process_tags_with(host="another"),
        "untagged": {},
    }
    runs = {name: client.create_run(experiment_id, tags=known).info.run_id for name, known in tags.items()}
    for name, run_id in runs.items():
        client.create_logged_model(experiment_id, name=name.replace(" ", "-"), source_run_id=run_id)
    own = client.create_run(experiment_id).info.run_id
    for name in ("of another machine", "untagged"):
        client.set_terminated(runs[name], "FAILED")
    client.create_logged_model(experiment_id, name="without-a-run")
    close_orphans(experiment_id, own)
    status = {model.name: str(model.status) for model in client.search_logged_models([experiment_id])}
    assert status.pop("orphan") == "FAILED"
    assert set(status.values()) == {"PENDING"} and len(status) == 4


def test_a_model_is_ended_too_if_only_its_run_was_ended_before(store, dead_pid):
    """As by ``mlflow run``, which ends the run of a command that was killed."""
    client = MlflowClient()
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    run_id = client.create_run(experiment_id, tags=process_tags_with(pid=dead_pid)).info.run_id
    model = client.create_logged_model(experiment_id, name="model", source_run_id=run_id)
    client.set_terminated(run_id, "FAILED")
    close_orphans(experiment_id, "own")
    assert str(client.get_logged_model(model.model_id).status) == "FAILED"
