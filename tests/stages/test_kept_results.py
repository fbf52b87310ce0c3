"""A server that goes away while a stage trains: the results are kept in a folder, and filed when it is back."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path

import mlflow.pyfunc
import pytest
from kept_runs import Server, contents, leave_during, server_in_place_of
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from ring_fits import SHORT

from abalone.data.reading import read
from abalone.registry.promotion import promote
from abalone.settings import UserError, load_settings
from abalone.stages import rings, stage
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage
from abalone.tracking.filing import file_results
from abalone.tracking.reachable import KEPT_RESULTS, ServerAway

SETTINGS = load_settings("classify", {"epochs": 2, "batch_size": 500})


@pytest.fixture
def server(store: str, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The store of this test, which can go away; its stages draw one figure only, to be quick."""
    monkeypatch.setattr(stage, "prediction_figures", lambda *arguments: {})
    return server_in_place_of(store, empty_database, monkeypatch)


def newest_run(name: str = "classify") -> str:
    """Id of the run that was begun last."""
    [run] = MlflowClient().search_runs(["1"], f"tags.stage = '{name}'", max_results=1)
    return run.info.run_id


def test_a_server_that_goes_away_at_any_call_after_the_training_loses_nothing(server, monkeypatch):
    expected = contents(run_stage("classify", SETTINGS).run_id)
    for calls in count():
        with monkeypatch.context() as this_time:
            leave_during(stage, "fit", server, this_time, calls)
            try:
                run_stage("classify", SETTINGS)
            except ServerAway as error:
                message = str(error)
        if not server.come_back():
            break
        run_id = newest_run()
        folder = Path(KEPT_RESULTS, run_id)
        assert f"abalone file --folder {folder.absolute()}" in message and "Connection refused" in message
        file_results(folder, print)
        assert contents(run_id) == expected, calls
    assert calls > 8


def test_a_filing_that_is_interrupted_at_every_call_is_completed_in_the_end(server, monkeypatch):
    expected = contents(run_stage("classify", SETTINGS).run_id)
    leave_during(stage, "fit", server, monkeypatch)
    with pytest.raises(ServerAway):
        run_stage("classify", SETTINGS)
    server.come_back()
    for calls in count():
        server.leave_after(calls)
        try:
            file_results(Path(KEPT_RESULTS), print)
        except MlflowException as error:
            assert "Max retries exceeded" in str(error)
        if not server.come_back():
            break
    assert contents(newest_run()) == expected and calls > 8


def test_results_are_filed_once_wherever_their_folder_is_now_and_can_be_promoted(server, monkeypatch):
    leave_during(stage, "fit", server, monkeypatch)
    for _ in range(2):
        with pytest.raises(ServerAway):
            run_stage("classify", SETTINGS)
        server.come_back()
    said = []
    moved = Path(KEPT_RESULTS).rename("moved")
    file_results(moved, said.append)
    first = contents(newest_run())
    file_results(moved, said.append)
    assert [("is filed;" in line, "is filed already" in line) for line in said] == 2 * [(True, False)] + 2 * [
        (False, True)
    ]
    assert contents(newest_run()) == first
    [decision] = promote(("classification",), print)
    assert decision.promotes
    champion = mlflow.pyfunc.load_model("models:/abalone-classifier@champion")
    assert set(champion.predict(read("uci").frame.head(5))["label"]) <= {"Young", "Old"}


def test_both_models_of_rings_are_kept_and_filed(server, monkeypatch):
    settings = load_settings("rings", SHORT)
    expected = contents(run_rings(settings).run_id)
    leave_during(rings, "fit_rings", server, monkeypatch)
    with pytest.raises(ServerAway):
        run_rings(settings)
    server.come_back()
    file_results(Path(KEPT_RESULTS), print)
    assert contents(newest_run("rings")) == expected and expected["models"] == 2


def test_a_run_that_was_marked_as_failed_meanwhile_is_mended(server, monkeypatch):
    leave_during(stage, "fit", server, monkeypatch)
    with pytest.raises(ServerAway):
        run_stage("classify", SETTINGS)
    server.come_back()
    MlflowClient().set_tag(newest_run(), "error", "the process was killed; marked by a later run")
    MlflowClient().set_terminated(newest_run(), "FAILED")
    file_results(Path(KEPT_RESULTS), print)
    run = MlflowClient().get_run(newest_run())
    assert run.info.status == "FINISHED" and "error" not in run.data.tags


def test_an_error_that_is_not_the_servers_is_raised_as_it_is_and_nothing_is_kept(server, monkeypatch):
    def no_page(facts):
        raise ZeroDivisionError

    monkeypatch.setattr(stage, "stage_page", no_page)
    with pytest.raises(ZeroDivisionError):
        run_stage("classify", SETTINGS)
    assert not list(Path(KEPT_RESULTS).iterdir())
    assert MlflowClient().get_run(newest_run()).info.status == "FAILED"


def test_a_folder_without_results_and_a_server_without_their_run_are_named(server, empty_database, monkeypatch):
    with pytest.raises(UserError, match=r"no kept results in .*/kept-results"):
        file_results(Path(KEPT_RESULTS), print)
    leave_during(stage, "fit", server, monkeypatch)
    with pytest.raises(ServerAway):
        run_stage("classify", SETTINGS)
    server.come_back()
    shutil.copy(empty_database, "another.db")
    mlflow.set_tracking_uri("sqlite:///another.db")
    with pytest.raises(UserError, match=r"is not in sqlite:///another.db; set MLFLOW_TRACKING_URI to the server"):
        file_results(Path(KEPT_RESULTS), print)
