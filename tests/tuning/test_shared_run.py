"""The one run of a study: opened by whoever comes first, joined by the others, closed by one of them."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import mlflow
import pytest
from helpers import process_tags_with
from mlflow import MlflowClient
from stores import copy_store, filling
from tuning_helpers import JOURNAL, make_plan, search_runs, tune

from abalone.settings import UserError
from abalone.stages.recorder import Result
from abalone.tracking.processes import PROCESS_TAG
from abalone.tracking.runs import RunOptions
from abalone.tuning import shared_run as module
from abalone.tuning.heartbeat import record_heartbeat
from abalone.tuning.results import count_trials
from abalone.tuning.search import Limits
from abalone.tuning.shared_run import CLOSED_TAG, RUN_ATTRIBUTE, may_close, shared_run
from abalone.tuning.storage import CREATOR_ATTRIBUTE, STORAGE_VARIABLE, open_study
from abalone.tuning.tune import Where, run_tune

TAGS = {"stage": "tune", "study": "s"}
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")
DEAD = process_tags_with(pid=str(2**22 + 1))  # above Linux's highest process id
ELSEWHERE = process_tags_with(host="elsewhere")
SMALL = make_plan(epochs=1)
CLOSED = "it's mine"


@pytest.fixture(scope="module")
def filled(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """Folder of a store with a study of two trials, and what ``tune`` returned."""
    folder = tmp_path_factory.mktemp("closed")
    with filling(folder, empty_database):
        result, _, _ = tune(SMALL, trials=2, name=CLOSED)
    return folder, result


@pytest.fixture
def closed(filled: tuple[Path, Result], store: str, own_folder: Path) -> Result:
    """The closed study in the store of a test; returns its winner's result."""
    folder, result = filled
    copy_store(folder, own_folder)
    return result


def runs_of_studies() -> list:
    return search_runs("tags.stage = 'tune'")


def winners() -> list:
    return search_runs("tags.stage = 'tuned'")


def test_a_command_that_continues_a_study_works_in_its_run(closed):
    tune(SMALL, trials=4, name=CLOSED)
    [run] = runs_of_studies()
    assert run.info.status == "FINISHED" and run.data.tags[CLOSED_TAG] == "4"
    assert sum(value for name, value in run.data.metrics.items() if name.startswith("trials/")) == 4
    parents = {trial.data.tags["mlflow.parentRunId"] for trial in search_runs("tags.stage = 'trial'")}
    assert parents == {run.info.run_id}


def test_a_command_that_continues_a_study_marks_the_winner_whose_process_was_killed(closed):
    [run] = runs_of_studies()
    tags = {"stage": "tuned", "mlflow.parentRunId": run.info.run_id, **DEAD}
    killed = MlflowClient().create_run(run.info.experiment_id, tags=tags)
    tune(SMALL, trials=3, name=CLOSED)
    assert MlflowClient().get_run(killed.info.run_id).info.status == "FAILED"


def test_a_command_that_finds_a_study_closed_returns_its_winner_and_trains_nothing(closed):
    again, _, _ = tune(SMALL, trials=2, name=CLOSED)
    assert again.run_id == closed.run_id and len(winners()) == 1
    assert (again.stage, again.task, again.test_rows) == (closed.stage, closed.task, closed.test_rows)
    assert again.metrics == pytest.approx(dict(closed.metrics))
    assert [run.info.status for run in runs_of_studies()] == ["FINISHED"]


def test_a_process_that_did_not_create_the_study_joins_the_run_of_the_one_that_did(store, monkeypatch):
    study = open_study(SMALL, "s", JOURNAL)
    study.set_user_attr(CREATOR_ATTRIBUTE, ELSEWHERE)
    experiment_id = mlflow.set_experiment("abalone").experiment_id
    opened = []

    def open_elsewhere(seconds: float) -> None:
        run = MlflowClient().create_run(experiment_id, tags={**TAGS, **ELSEWHERE})
        study.set_user_attr(RUN_ATTRIBUTE, run.info.run_id)
        opened.append(run.info.run_id)

    monkeypatch.setattr(module.time, "sleep", open_elsewhere)
    with shared_run(study, "tune", TAGS, RunOptions()) as run_id:
        assert [run_id] == opened


def test_a_process_opens_the_run_itself_if_the_one_that_created_the_study_is_dead(store):
    study = open_study(SMALL, "s", JOURNAL)
    study.set_user_attr(CREATOR_ATTRIBUTE, DEAD)
    with shared_run(study, "tune", TAGS, RunOptions()) as run_id:
        assert study.user_attrs[RUN_ATTRIBUTE] == run_id


def test_a_study_whose_run_was_deleted_gets_a_new_one(closed):
    MlflowClient().delete_run(runs_of_studies()[0].info.run_id)
    tune(SMALL, trials=3, name=CLOSED)
    assert len(runs_of_studies()) == 1 and len(winners()) == 2


def test_the_run_that_mlflow_run_opened_for_a_process_that_joins_is_one_of_a_worker(closed, monkeypatch):
    [run] = runs_of_studies()
    own = MlflowClient().create_run(run.info.experiment_id).info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", own)
    tune(SMALL, trials=3, name=CLOSED)
    tags = MlflowClient().get_run(own).data.tags
    assert tags["stage"] == "worker" and tags["mlflow.parentRunId"] == run.info.run_id
    assert len(runs_of_studies()) == 1


@pytest.mark.parametrize(("others_at_work", "status"), [(True, "RUNNING"), (False, "KILLED")])
def test_who_is_interrupted_ends_the_run_only_if_nobody_else_is_at_work(store, others_at_work, status):
    study = open_study(SMALL, "s", "sqlite:///studies.db")
    with pytest.raises(KeyboardInterrupt), shared_run(study, "tune", TAGS, RunOptions()):
        if others_at_work:
            trial = study.ask(SMALL.distributions())
            record_heartbeat(study, trial)
            trial.set_user_attr("process", ELSEWHERE)
        raise KeyboardInterrupt
    assert runs_of_studies()[0].info.status == status


def test_of_several_processes_one_closes_the_study(store, monkeypatch):
    study = open_study(SMALL, "s", JOURNAL)
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with shared_run(study, "tune", TAGS, RunOptions()) as run_id:
        assert list(islice(may_close(run_id, 3, patience=60), 1)) == [True]
        monkeypatch.setattr(module, "process_tags", lambda: ELSEWHERE)
        assert list(islice(may_close(run_id, 3, patience=60), 3)) == [False] * 3
        assert list(islice(may_close(run_id, 4, patience=60), 1)) == [True], "the study was continued"


def test_a_process_that_dies_while_it_closes_the_study_is_replaced(store):
    study = open_study(SMALL, "s", JOURNAL)
    with shared_run(study, "tune", TAGS, RunOptions()) as run_id:
        MlflowClient().log_param(run_id, "closed_by.2.1", DEAD[PROCESS_TAG])
        MlflowClient().log_param(run_id, "closed_by.2.2", ELSEWHERE[PROCESS_TAG])
        answers = may_close(run_id, 2, patience=0)
        assert list(islice(answers, 3)) == [False, False, True]


def test_a_study_that_is_kept_elsewhere_is_refused_and_nothing_is_written(store):
    tune(SMALL, trials=2, storage="there.journal")
    with pytest.raises(UserError, match=r"'s' is kept in the file there.journal on .*, not in here.journal"):
        tune(SMALL, trials=4, storage="here.journal")
    assert not Path("here.journal").exists() and len(runs_of_studies()) == 1


def test_a_variable_names_the_storage_of_all_studies(store, monkeypatch):
    monkeypatch.setenv(STORAGE_VARIABLE, "shared.journal")
    run_tune(SMALL, Where("s"), Limits(2), print)
    assert not Path(JOURNAL).exists()
    assert count_trials(open_study(SMALL, "s", "shared.journal")) == 2
