"""The command line in real processes: messages, exit status, and the runs that MLflow keeps."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from helpers import ROOT, environment
from mlflow import MlflowClient
from mlflow.entities import Run
from warm_processes import PYTHON, warm_environment, warm_mlflow_run

from abalone.data.reading import FILE_COLUMNS, SHIPPED_FILE

COMMAND = [PYTHON, "-m", "abalone"]
FIRST_STARTS = 3
# Warm, the process that works is not the one that is started, so it says who it is.
NAMED = "import os, runpy; print(os.getpid(), flush=True); runpy.run_module('abalone', run_name='__main__')"


def start(*arguments: str) -> subprocess.Popen:
    """``python -m abalone`` in the test's folder, with SIGINT handled as in a terminal."""
    return subprocess.Popen(
        [*COMMAND, *arguments],
        env={**warm_environment(), "PYTHONPATH": str(ROOT)},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def abalone(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a finished command."""
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def runs(uri: str, experiment: str = "abalone") -> list[Run]:
    """All runs of an experiment, the newest first; none if it does not exist."""
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return []
    return client.search_runs([found.experiment_id])


def has_begun(uri: str) -> bool:
    """Whether a run has the tags of its process."""
    return any("process" in run.data.tags for run in runs(uri))


def wait_until(process: subprocess.Popen, condition: Callable[[], bool], seconds: float = 60) -> None:
    """Check a condition again and again; fail if the process ends first or time is up."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} seconds"
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(0.2)}: {process.communicate()}")


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--learning-rat", "1"], "--learning-rate"),
        (["--learning_rate", "7"], "Adam's first learning rate, above 0 and at most 1"),
        (["--epochs", "some"], "'some' is not valid; expected passes over the training rows, from 1 to 10000"),
        (["--features", "Length,Wide"], "out of I,F,M,Length"),
    ],
)
def test_a_wrong_option_is_a_usage_error_and_no_run_begins(store, arguments, expected):
    command = [sys.executable, "-m", "abalone", "classify", *arguments]  # it imports none of the heavy libraries
    done = subprocess.run(command, capture_output=True, text=True, env={**environment(), "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not runs(store)


@pytest.mark.slow
def test_invalid_data_give_one_message_that_names_line_column_and_value(store):
    lines = SHIPPED_FILE.read_text().splitlines()
    fields = lines[41].split(",")
    fields[FILE_COLUMNS.index("Diameter")] = "wide"
    lines[41] = ",".join(fields)
    Path("mine.data").write_text("\n".join(lines))
    status, _, err = abalone("classify", "--data", "mine.data")
    message = err[err.index("Error:") :]
    assert status == 1
    assert "Traceback" not in err
    for part in ("mine.data", "line 42", "Diameter", "'wide'", "a number from 0 to 6.5"):
        assert part in message
    [run] = runs(store)
    assert run.info.status == "FAILED"
    assert "line 42" in run.data.tags["error"]
    _, _, err = abalone("classify", "--data", "mine.data", "--debug")
    assert "Traceback" in err


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent, status", [(signal.SIGINT, "KILLED"), (signal.SIGTERM, "KILLED"), (signal.SIGKILL, "FAILED")]
)
def test_a_stopped_run_is_never_left_running(store, sent, status):
    process = start("classify", "--epochs", "10000")
    wait_until(process, partial(has_begun, store))
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "Traceback" not in err
    if sent == signal.SIGKILL:  # the process cannot end its run; the next one does
        next_status, _, _ = abalone("classify", "--epochs", "1")
        assert next_status == 0
    else:
        assert "what was finished is kept" in err
    assert runs(store)[-1].info.status == status


@pytest.mark.slow
def test_a_command_under_nohup_outlives_its_terminal(store):
    process = subprocess.Popen(
        [PYTHON, "-c", NAMED, "classify", "--epochs", "20"],
        env={**warm_environment(), "PYTHONPATH": str(ROOT)},
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_IGN),
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(process.stdout.readline())
    assert "training 20 epochs" in process.stdout.readline()
    os.kill(pid, signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 0
    assert runs(store)[0].info.status == "FINISHED"


@pytest.mark.slow
def test_several_first_starts_on_a_new_database_share_one_experiment(own_folder, monkeypatch):
    uri = f"sqlite:///{own_folder / 'new.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    processes = [start("classify", "--epochs", "1", "--seed", str(seed)) for seed in range(FIRST_STARTS)]
    for process in processes:
        output = process.communicate(timeout=300)
        assert process.returncode == 0, output
    assert sorted(run.data.params["seed"] for run in runs(uri)) == [str(seed) for seed in range(FIRST_STARTS)]
    assert not runs(uri, "Default")


@pytest.mark.slow
def test_store_and_experiment_are_taken_from_the_environment_unless_an_option_names_another(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    status, _, _ = abalone("classify", "--epochs", "1")
    assert status == 0
    assert [run.info.run_name for run in runs(store, "mine")] == ["classify"]
    status, _, _ = abalone("classify", "--epochs", "1", "--experiment-name", "other", "--run-name", "first")
    assert status == 0
    assert [run.info.run_name for run in runs(store, "other")] == ["first"]


@pytest.mark.slow
def test_main_reports_invalid_data_once(store):
    Path("bad.data").write_text("M,1,2\n" * 9)
    status, out, err = abalone("main", "--data", "bad.data")
    assert status == 1
    assert err.count("line 1:") == 1
    assert "line 1:" not in out
    assert [run.info.status for run in runs(store)] == ["FAILED"]


@pytest.mark.slow
def test_mlflow_run_keeps_the_experiment_the_name_and_the_spelling_that_its_user_chose(store):
    options = ["-e", "classify", "--experiment-name", "abalone", "--run-name", "my-own-1"]
    parameters = ["-P", "epochs=2", "-P", "learning_rate=.001", "-P", "gamma=9.5e-1"]
    done = warm_mlflow_run(*options, *parameters)
    assert done.returncode == 0, done.stderr
    [run] = runs(store)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "my-own-1"
    assert run.data.params["learning_rate"] == ".001"
    assert run.data.params["gamma"] == "9.5e-1"
    assert f"runs/{run.info.run_id}" in done.stdout, "the address of the run"


@pytest.mark.slow
def test_mlflow_run_without_an_experiment_works_in_the_default_one_of_mlflow(store):
    done = warm_mlflow_run("-e", "classify", "-P", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert [run.info.status for run in runs(store, "Default")] == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "option, expected",
    [("learning_rat=1", "--learning-rate"), ("epochs=-1", "from 1 to 10000"), ("data=no", "no such")],
)
def test_mlflow_run_with_a_wrong_parameter_fails_with_the_reason(store, option, expected):
    done = warm_mlflow_run("-e", "classify", "--experiment-name", "abalone", "-P", option)
    assert done.returncode != 0
    assert expected in done.stderr.lower().replace("\n", " ")
    assert [run.info.status for run in runs(store)] == ["FAILED"]


@pytest.mark.slow
def test_the_experiment_of_the_option_comes_before_that_of_the_environment(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    done = warm_mlflow_run("-e", "classify", "--experiment-name", "other", "-P", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert len(runs(store, "other")) == 1 and not runs(store, "mine")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curves_in_another_process(store):
    for _ in range(2):
        status, _, _ = abalone("dropout", "--epochs", "3", "--seed", "5")
        assert status == 0
    client = MlflowClient(store)
    curves = []
    for run in runs(store):
        curves.append([metric.value for metric in client.get_metric_history(run.info.run_id, "loss/val")])
    assert curves[0] == curves[1]
    assert len(curves[0]) == 3
