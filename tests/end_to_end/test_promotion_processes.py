"""Promotion, rollback and scoring in real processes: two at once, ``main``, ``mlflow run``, other versions."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import ROOT
from mlflow import MlflowClient
from project_copies import copy_project
from registry_store import (
    CLASSIFIER,
    candidate,
    make_unsealed,
    model_folder,
    model_id_of,
    promote_one,
    replace_in,
    runs_of,
    split_of,
    version_with,
)
from stores import copy_store, filling
from warm_processes import PYTHON, warm_environment, warm_mlflow_run

from abalone.data.reading import SHIPPED_FILE
from abalone.main import run_main
from abalone.registry.scoring import score_table
from abalone.settings import REGISTERED_MODELS, load_settings
from abalone.stages.stage import run_stage
from abalone.tracking.addresses import version_path


@pytest.fixture
def client(store) -> MlflowClient:
    return MlflowClient()


def start(*arguments: str, project: Path = ROOT) -> subprocess.Popen:
    """Start ``python -m abalone`` of a copy of the project, in the test's folder."""
    command = [PYTHON, "-m", "abalone", *arguments]
    env = {**warm_environment(), "PYTHONPATH": str(project)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


@pytest.fixture(scope="module")
def candidates(tmp_path_factory, empty_database) -> Path:
    """Folder of a store with two candidates, each in an experiment of its own."""
    folder = tmp_path_factory.mktemp("candidates")
    with filling(folder, empty_database):
        for name, skill in (("good", 0.5), ("better", 0.7)):
            candidate(name, skill, experiment=name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("attempt", range(3))
def test_two_real_promotions_at_once_leave_the_better(candidates, client, own_folder, attempt):
    copy_store(candidates, own_folder)
    command = ("promote", "--task", "classification", "--experiment")
    both = [start(*command, name) for name in ("better", "good")]
    for process in both:
        status, _, err = finish(process)
        assert status == 0, err
    aliases = client.get_registered_model(CLASSIFIER).aliases
    assert client.get_run(version_with("champion").run_id).info.run_name == "better"
    assert set(aliases) <= {"champion", "previous"}
    assert aliases.get("previous") != aliases["champion"]


@pytest.mark.slow
def test_main_ends_with_a_promotion(client):
    said = []
    stages = {name: load_settings(name, {"epochs": 3}) for name in ("encode", "regress")}
    run_main(stages, said.append)
    assert {model.name: set(model.aliases) for model in client.search_registered_models()} == {
        name: {"champion"} for name in REGISTERED_MODELS.values()
    }
    parent = runs_of("main")[0].info.run_id
    assert {run.data.tags["mlflow.parentRunId"] for run in runs_of("promote")} == {parent}
    note = client.get_experiment_by_name("abalone").tags["mlflow.note.content"]
    for name in REGISTERED_MODELS.values():
        assert f"`models:/{name}@champion`" in note
        assert version_path(name, 1) in note


def test_main_with_models_too_weak_to_promote_still_succeeds(client):
    said = []
    naive = load_settings("regress", {"epochs": 1, "learning_rate": 1e-6})
    run_main({"regress": naive}, said.append)
    assert any(line.startswith("No promotion: no candidate for regression") for line in said)
    assert not client.search_registered_models()


@pytest.mark.slow
def test_promote_and_rollback_by_mlflow_run(client):
    empty = warm_mlflow_run("-e", "promote", "-P", "task=classification", "--experiment-name", "abalone")
    assert empty.returncode != 0 and "no candidate for classification" in empty.stderr
    candidate("first", 0.4)
    for name, skill in (("first", 0.4), ("second", 0.6)):
        candidate(name, skill)
        done = warm_mlflow_run("-e", "promote", "-P", "task=classification", "-P", "experiment=abalone")
        assert done.returncode == 0 and "**promoted**" in done.stdout, done.stderr
    done = warm_mlflow_run("-e", "rollback", "-P", "task=classification")
    assert done.returncode == 0 and "version 1 is champion again" in done.stdout, done.stderr
    states = {run.info.status for e in client.search_experiments() for run in client.search_runs([e.experiment_id])}
    assert states == {"FINISHED", "FAILED"}


@pytest.fixture
def changed_project(own_folder) -> Path:
    """A copy of the project in which the code that travels with models computes other numbers."""
    copy = copy_project(own_folder / "changed")
    model = copy / "abalone" / "model"
    replace_in(model / "features.py", r"z = \(x", "z = 2 * (x")
    replace_in(model / "features.py", r"return torch\.from_numpy\(", "return 3 * torch.from_numpy(")
    replace_in(
        model / "networks.py", r"return self\.network\(self\.prepare\(x\)\)", "return 4 * self.network(self.prepare(x))"
    )
    replace_in(model / "scorer.py", r"old = output\.softmax\(1\)", "old = 0.9 * output.softmax(1)")
    replace_in(model / "columns.py", "YEARS_BEFORE_FIRST_RING = 1.5", "YEARS_BEFORE_FIRST_RING = 9.5")
    return copy


@pytest.mark.slow
def test_champions_score_a_file_alike_whatever_the_projects_code_has_become(client, changed_project):
    for stage, task in (("encode", "classification"), ("regress", "regression")):
        run_stage(stage, load_settings(stage, {"epochs": 3}))
        promote_one(task)
    shutil.copy(SHIPPED_FILE, "rows.csv")
    score_table("rows.csv", "here.csv")
    status, out, err = finish(start("predict", "--input", "rows.csv", "--output", "there.csv", project=changed_project))
    assert status == 0 and out.startswith("4177 rows scored: there.csv (by the classifier version 1 and"), err
    assert Path("there.csv").read_bytes() == Path("here.csv").read_bytes()


@pytest.mark.slow
def test_a_promotion_compares_alike_whatever_the_projects_code_has_become(client, changed_project):
    """The champion's data share no row with the challenger's, so that it is scored again."""
    lines = SHIPPED_FILE.read_text().splitlines(keepends=True)
    Path("a.data").write_text("".join(lines[:2000]))
    Path("b.data").write_text("".join(lines[2000:]))
    run_stage("encode", load_settings("encode", {"epochs": 3, "data": "a.data"}))
    promote_one()
    split = split_of(run_stage("encode", load_settings("encode", {"epochs": 3, "data": "b.data"})).run_id)
    here = promote_one(dry_run=True, split=split)
    assert "against the champion (95 % interval" in here.reason
    dry_run = ("promote", "--task", "classification", "--dry-run", "true", "--split", split)
    status, out, err = finish(start(*dry_run, project=changed_project))
    assert status == 0 and here.reason in out, err


@pytest.mark.slow
def test_predict_ends_with_one_message_for_a_champion_of_an_older_version_and_promote_replaces_it(client):
    for task in REGISTERED_MODELS:
        candidate(f"older {task}", 0.9, task=task)
        promote_one(task)
    make_unsealed(model_folder(model_id_of(version_with("champion").run_id)))
    Path("rows.csv").write_text("".join(SHIPPED_FILE.read_text().splitlines(keepends=True)[:7]))
    predict = ("predict", "--input", "rows.csv", "--output", "scored.csv")
    status, _, err = finish(start(*predict))
    assert status == 1 and not Path("scored.csv").exists()
    assert err == (
        "Error: models:/abalone-classifier/1 cannot be loaded (ImportError: it was logged by an older version of the "
        "project, which did not seal its code); train and promote again\n"
    )
    candidate("weaker", 0.3)
    status, out, err = finish(start("promote", "--task", "classification"))
    assert status == 0 and "**promoted**: version 1, the champion, cannot be loaded (ImportError: " in out, err
    status, out, _ = finish(start(*predict))
    assert status == 0 and out.startswith("7 rows scored: scored.csv ")
