"""A study in real processes: killed, interrupted, shared among workers, started by ``mlflow run``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import optuna
import pytest
from helpers import ROOT, environment, mlflow_run
from mlflow import MlflowClient
from optuna.trial import TrialState

from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.results import DONE, count_states, count_trials
from abalone.tuning.storage import open_storage, open_study

pytestmark = pytest.mark.slow
TRIALS = 33
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


def start(*options: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "abalone", "tune", "--study", "s", "--trials", str(TRIALS), *options]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(), start_new_session=True)


def wait(process: subprocess.Popen, seconds: float) -> None:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def opened():
    return open_study(Plan("encode", load_settings("encode"), read_space(SEARCHED_BY_DEFAULT)), "s", "studies.journal")


def assert_whole(killed: int | None = None):
    """The study has its trials, and each run says the same as its trial."""
    study = opened()
    counts = count_states(study)
    assert counts["complete"] + counts["pruned"] + counts["failed"] == count_trials(study) == TRIALS
    assert killed is None or counts["killed"] == killed
    client = MlflowClient()
    known = {t.user_attrs.get("run_id"): t for t in study.trials}
    runs = client.search_runs(["1"], "tags.stage = 'trial'")
    for run in runs:
        trial = known.get(run.info.run_id)
        expected = STATUS[trial.state] if trial else "FAILED"  # killed before the study knew of its run
        assert run.info.status == expected, (run.info.run_name, trial)
    assert len(runs) >= TRIALS and not client.search_runs(["1"], "attributes.status = 'RUNNING'")
    return study


def test_a_study_killed_at_five_random_moments_ends_with_all_its_trials(store):
    moments, finished = random.Random(0), {}
    for batches in (0, 0, 0, 1, 0):  # that are waited for before the moment begins
        process = start()
        for _ in range(1 + batches):
            assert "study s" in (line := process.stdout.readline()) or "trials" in line
        wait(process, moments.uniform(0, 1.0))
        process.kill()
        finish(process)
        known = {t.number: t for t in opened().trials}
        assert all(known[number].state == trial.state for number, trial in finished.items()), "finished trials count"
        finished = {number: trial for number, trial in known.items() if trial.state in DONE}
    assert len(finished) >= 16
    status, out, err = finish(start())
    assert status == 0, err
    assert "study s: best val/log_loss" in out and "mlflow ui --backend-store-uri" in out
    study = assert_whole()
    assert sum("run_id" in t.user_attrs for t in study.trials if t.state == TrialState.COMPLETE) > 0
    [winner] = MlflowClient().search_runs(["1"], "tags.stage = 'tuned' and attributes.status = 'FINISHED'")
    assert winner.data.tags["study.value"] == repr(study.best_value)


def test_ctrl_c_ends_a_study_with_its_best_so_far_and_status_130(store):
    process = start()
    lines = [process.stdout.readline() for _ in range(2)]
    assert "16 of 33 trials" in lines[1]
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert status == 130 and "study s: best val/log_loss" in out and "-P study=s" in out
    assert "Interrupted" in err and "Traceback" not in err
    [run] = MlflowClient().search_runs(["1"], "tags.stage = 'tune'")
    assert run.info.status == "KILLED" and run.data.metrics["trials/complete"] > 0
    assert not MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")
    assert finish(start())[0] == 0
    assert_whole()


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_leaves_nothing_running(store, seed):
    process = start()
    assert "study s" in process.stdout.readline() and "16 of 33" in process.stdout.readline()
    wait(process, random.Random(seed).uniform(0, 1.0))
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status in (0, 130) and "Traceback" not in err
    assert not MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")
    assert not [t for t in opened().trials if t.state == TrialState.RUNNING]


def test_ctrl_c_on_mlflow_run_leaves_nothing_running(store):
    command = [Path(sys.executable).with_name("mlflow"), "run", ROOT, "-e", "tune", "--env-manager", "local"]
    command += ["--experiment-name", "abalone", "-P", "study=s", "-P", f"trials={TRIALS}"]
    pipe = subprocess.PIPE
    options = {"stdout": pipe, "stderr": pipe, "text": True, "env": environment(), "start_new_session": True}
    process = subprocess.Popen(command, **options)
    while "16 of 33" not in (line := process.stdout.readline()):
        assert line, finish(process)
    wait(process, 0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, out, _ = finish(process)
    assert status != 0 and "study s: best val/log_loss" in out
    assert not MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")
    storage = MlflowClient().search_runs(["1"], "tags.stage = 'tune'")[0].data.tags["storage"]
    study = optuna.load_study(study_name="s", storage=open_storage(storage))
    assert not [t for t in study.trials if t.state == TrialState.RUNNING]


def test_ctrl_c_on_mlflow_run_ends_workers_too(store):
    process = start("--workers", "2")
    assert "study s" in process.stdout.readline()
    wait(process, 1.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, while the workers import
    wait(process, 0.3)
    process.send_signal(signal.SIGTERM)  # as mlflow does
    status, _, err = finish(process)
    assert status in (130, 143) and "Traceback" not in err
    assert not opened().get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
    assert not MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")


def test_ctrl_c_before_the_workers_are_ready_leaves_no_traceback(store):
    process = start("--workers", "2")
    assert "study s" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, _, err = finish(process)
    assert status == 130 and "Interrupted" in err and "Traceback" not in err
    assert not MlflowClient().search_runs(["1"], "attributes.status = 'RUNNING'")


def test_two_commands_at_once_work_on_one_study(store):
    ended = [(finish(process), process.returncode) for process in [start(), start()]]
    assert [status for _, status in ended] == [0, 0], ended
    assert len({tuple(t.params.values()) for t in assert_whole(killed=0).trials}) >= TRIALS


def test_workers_share_the_trials_among_them(store):
    status, _, err = finish(start("--workers", "2"))
    assert status == 0, err
    study = assert_whole(killed=0)
    pids = {MlflowClient().get_run(t.user_attrs["run_id"]).data.tags["process.pid"] for t in study.trials}
    assert len(pids) == 2
    assert len({tuple(t.params.values()) for t in study.trials}) == TRIALS


def test_workers_end_with_the_process_that_started_them(store):
    process = start("--workers", "2")
    assert "study s" in process.stdout.readline() and "trials" in process.stdout.readline()
    process.kill()
    finish(process)  # returns when the last worker has closed its end of the pipe
    assert finish(start())[0] == 0
    assert_whole()


def test_mlflow_run_tunes_with_its_options(store):
    options = {"task": "regression", "trials": 17, "epochs": 5, "study": "r", "search": "learning_rate,width"}
    done = mlflow_run("-e", "tune", "--experiment-name", "abalone", *(f"-P{k}={v}" for k, v in options.items()))
    assert done.returncode == 0, done.stderr
    assert "17 of 17 trials" in done.stdout + done.stderr
    client = MlflowClient()
    [run] = client.search_runs(["1"], "tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.params["trials"] == "17"
    assert run.data.metrics["best_value"] < 4  # rings


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--base", "encod"], "'encod' is not one of"),
        (["--base", "encode", "--task", "regression"], "encode is no regression; expected one of regress"),
        (["--search", "learningrate"], "'learningrate' cannot be searched; expected some of learning_rate"),
        (["--trials", "0"], "'--trials'"),
        (["--data", "nowhere.csv"], "nowhere.csv"),
        (["--storage", "/no/such/folder/x.journal"], "cannot be used"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_option_is_one_message_and_nothing_is_written(store, options, complaint):
    status, _, err = finish(start(*options))
    assert status != 0 and complaint in err and "Traceback" not in err
    assert not MlflowClient().search_experiments(filter_string="name = 'abalone'")
