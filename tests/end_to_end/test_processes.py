"""The command line as its users meet it: real processes, their messages, their exit status, what MLflow keeps."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from helpers import ROOT, environment, mlflow_run
from mlflow.tracking import MlflowClient

from abalone.data.reading import SHIPPED_FILE

COMMAND = [sys.executable, "-m", "abalone"]


def start(*arguments: str, **options) -> subprocess.Popen:
    """``python -m abalone`` in the test's folder, deaf to no signal, as in a terminal."""
    settings = {**environment(), "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    hear = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([*COMMAND, *arguments], env=settings, preexec_fn=hear, **pipes, **options)


def abalone(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a finished command."""
    process = start(*arguments)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def runs(uri: str, experiment: str = "abalone") -> list:
    client = MlflowClient(uri)
    found = client.get_experiment_by_name(experiment)
    return client.search_runs([found.experiment_id]) if found else []


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["--learning-rat", "1"], "--learning-rate"),
        (["--learning_rate", "7"], "Adam's first learning rate, above 0 and at most 1"),
        (["--epochs", "some"], "'some' is not valid; expected passes over the training rows, from 1 to 10000"),
        (["--features", "Length,Wide"], "out of I,F,M,Length"),
    ],
)
def test_a_bad_option_is_a_usage_error_and_no_run_begins(store, arguments, expected):
    status, _, err = abalone("classify", *arguments)
    assert status == 2 and expected in err and "Traceback" not in err
    assert not runs(store)


@pytest.mark.slow
def test_bad_data_is_one_message_that_names_line_column_and_value(store, tmp_path):
    lines = SHIPPED_FILE.read_text().splitlines()
    lines[41] = lines[41].replace(lines[41].split(",")[2], "wide", 1)
    Path("mine.data").write_text("\n".join(lines))
    status, _, err = abalone("classify", "--data", "mine.data")
    message = err[err.index("Error:") :]
    assert status == 1 and "Traceback" not in err
    assert all(word in message for word in ("mine.data", "line 42", "Diameter", "'wide'", "a number of at least 0"))
    [run] = runs(store)
    assert run.info.status == "FAILED" and "line 42" in run.data.tags["error"]
    assert "Traceback" in abalone("classify", "--data", "mine.data", "--debug")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sent, status", [(signal.SIGINT, "KILLED"), (signal.SIGTERM, "KILLED"), (signal.SIGKILL, "FAILED")]
)
def test_a_stopped_run_is_never_left_running(store, sent, status):
    process = start("classify", "--epochs", "10000")
    wait_until(process, lambda: [run for run in runs(store) if "process.pid" in run.data.tags])
    process.send_signal(sent)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0 and "Traceback" not in err
    if sent == signal.SIGKILL:  # nothing can be done at once; the next run does it
        assert abalone("classify", "--epochs", "1")[0] == 0
    else:
        assert "no run is left running" in err
    assert runs(store)[-1].info.status == status


def wait_until(process: subprocess.Popen, condition, seconds: float = 60) -> None:
    """Look again and again until something is there; fail if the process ends first or time is up."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        with contextlib.suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(0.2)}: {process.communicate()}")


@pytest.mark.slow
def test_a_command_under_nohup_outlives_its_terminal(store):
    deaf = partial(signal.signal, signal.SIGHUP, signal.SIG_IGN)
    command = [*COMMAND, "classify", "--epochs", "200"]
    process = subprocess.Popen(command, env={**environment(), "PYTHONPATH": str(ROOT)}, preexec_fn=deaf)
    wait_until(process, lambda: [run for run in runs(store) if "process.pid" in run.data.tags])
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) == 0 and runs(store)[0].info.status == "FINISHED"


@pytest.mark.slow
def test_several_first_starts_on_a_new_database_share_one_experiment(own_folder, monkeypatch):
    uri = f"sqlite:///{own_folder / 'new.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    processes = [start("classify", "--epochs", "1", "--seed", str(seed)) for seed in range(3)]
    ended = [(process.communicate(timeout=300), process.returncode) for process in processes]
    assert [status for _, status in ended] == [0, 0, 0], ended
    assert sorted(run.data.params["seed"] for run in runs(uri)) == ["0", "1", "2"]
    assert not runs(uri, "Default")


@pytest.mark.slow
def test_the_environment_names_store_and_experiment(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    assert abalone("classify", "--epochs", "1")[0] == 0
    assert [run.info.run_name for run in runs(store, "mine")] == ["classify"]
    assert abalone("classify", "--epochs", "1", "--experiment-name", "other", "--run-name", "first")[0] == 0
    assert [run.info.run_name for run in runs(store, "other")] == ["first"]


@pytest.mark.slow
def test_all_runs_of_main_are_where_it_is_whatever_the_environment_names(store, monkeypatch):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "mine")
    done = mlflow_run("--experiment-name", "other", "-P", "epochs=1", "-P", "trials=0", "-P", "seeds=0")
    assert done.returncode == 0, done.stderr
    assert not runs(store, "mine") and {run.info.status for run in runs(store, "other")} == {"FINISHED"}
    assert len(runs(store, "other")) == 10, "main, seven stages, two promotions"


@pytest.mark.slow
def test_bad_data_is_told_once_by_main(store, tmp_path):
    (tmp_path / "bad.data").write_text("M,1,2\n" * 9)
    status, out, err = abalone("main", "--data", "bad.data")
    assert status == 1 and err.count("line 1:") == 1 and "line 1:" not in out
    assert [run.info.status for run in runs(store)] == ["FAILED"]


@pytest.mark.slow
def test_mlflow_run_files_the_run_where_it_is_told_under_the_name_it_is_told(store):
    done = mlflow_run(
        *("-e", "classify", "--experiment-name", "abalone", "--run-name", "my-own-1"),
        *("-P", "epochs=2", "-P", "learning_rate=.001", "-P", "gamma=9.5e-1"),
    )
    assert done.returncode == 0, done.stderr
    [run] = runs(store)
    assert (run.info.status, run.info.run_name) == ("FINISHED", "my-own-1")
    assert run.data.params["learning_rate"] == ".001" and run.data.params["gamma"] == "9.5e-1"
    assert f"runs/{run.info.run_id}" in done.stdout, "the address of the run is told"


@pytest.mark.slow
def test_a_bare_mlflow_run_works_in_the_experiment_that_mlflow_gives_it(store):
    done = mlflow_run("-e", "classify", "-P", "epochs=1")
    assert done.returncode == 0, done.stderr
    assert [run.info.status for run in runs(store, "Default")] == ["FINISHED"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "option, expected",
    [("learning_rat=1", "--learning-rate"), ("epochs=-1", "from 1 to 10000"), ("data=no", "no such")],
)
def test_mlflow_run_with_something_wrong_fails_with_the_reason(store, option, expected):
    done = mlflow_run("-e", "classify", "--experiment-name", "abalone", "-P", option)
    assert done.returncode != 0 and expected in done.stderr.lower().replace("\n", " ")
    assert [run.info.status for run in runs(store)] == ["FAILED"]


@pytest.mark.slow
def test_main_tracks_every_stage_and_ends_with_one_table(store):
    done = mlflow_run("--experiment-name", "abalone", "-P", "epochs=1")
    assert done.returncode == 0, done.stderr
    stages = ["classify", "deepen", "encode", "regularize", "dropout", "regress", "rings"]
    status = {run.info.run_name: run.info.status for run in runs(store)}
    studies = ["tune classification", "tuned encode", "tune regression", "tuned regress"]
    ended = ["guide", *stages, *studies, "promote classification", "promote regression", "report"]
    assert {status[name] for name in ended} == {"FINISHED"} and "RUNNING" not in status.values()
    names = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    closing = names[names.index("stage") :]
    assert closing[2:] == [*stages, "tuned encode", "tuned regress", "baseline", "the guide"]
    assert "mlflow ui --backend-store-uri sqlite:///" in done.stdout


@pytest.mark.slow
def test_the_same_seed_gives_the_same_curves_in_another_process(store):
    for _ in range(2):
        assert abalone("dropout", "--epochs", "3", "--seed", "5")[0] == 0
    client = MlflowClient(store)
    curves = [[m.value for m in client.get_metric_history(run.info.run_id, "loss/val")] for run in runs(store)]
    assert curves[0] == curves[1] and len(curves[0]) == 3
