"""Studies in real processes: killed, interrupted, shared among workers, started by ``mlflow run``."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from contextlib import suppress

import optuna
import pytest
from helpers import ROOT
from mlflow import MlflowClient
from optuna.trial import TrialState
from tuning_helpers import BATCH, JOURNAL, SMALL_BATCHES, search_runs
from warm_processes import PYTHON, warm_environment, warm_mlflow_run

from abalone.settings import SEARCHED_BY_DEFAULT, load_settings
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.results import DONE, count_states, count_trials
from abalone.tuning.storage import open_storage, open_study

pytestmark = pytest.mark.slow
TRIALS = 2 * BATCH + 1
EPOCHS = 10
COMMAND = ("-c", SMALL_BATCHES, "tune", "--study", "s", "--trials", str(TRIALS), "--epochs", str(EPOCHS))
LONG = 1000  # epochs of a study that is to be interrupted before its first batch ends
STATUS = {TrialState.COMPLETE: "FINISHED", TrialState.PRUNED: "KILLED", TrialState.FAIL: "FAILED"}


def start(*options: str) -> subprocess.Popen:
    """Start a process that runs or resumes the study ``s``."""
    return popen([PYTHON, *COMMAND, *options])


def popen(command: list) -> subprocess.Popen:
    """Start a command in a process group of its own."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=warm_environment(), start_new_session=True
    )


def wait(process: subprocess.Popen, seconds: float) -> None:
    """Wait for some time, or until the process ends."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """Wait until the process ends; return its exit status, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def open_s(epochs: int = EPOCHS) -> optuna.Study:
    """Open the study ``s``."""
    plan = Plan("encode", load_settings("encode", {"epochs": epochs}), read_space(SEARCHED_BY_DEFAULT))
    return open_study(plan, "s", JOURNAL)


def running() -> list:
    """Runs that are still marked as running."""
    return search_runs("attributes.status = 'RUNNING'")


def assert_complete(killed: int | None = None) -> optuna.Study:
    """Assert that the study has all its trials, and that each run has the state of its trial; return the study."""
    study = open_s()
    counts = count_states(study)
    assert counts["complete"] + counts["pruned"] + counts["failed"] == count_trials(study) == TRIALS
    assert killed is None or counts["killed"] == killed
    trials = {trial.user_attrs.get("run_id"): trial for trial in study.trials}
    runs = search_runs("tags.stage = 'trial'")
    for run in runs:
        trial = trials.get(run.info.run_id)
        expected = "FAILED"  # for a run whose process was killed before the study recorded it
        if trial is not None:
            expected = STATUS[trial.state]
        assert run.info.status == expected, (run.info.run_name, trial)
    assert len(runs) >= TRIALS and not running()
    return study


def test_a_study_killed_at_five_random_moments_ends_with_all_its_trials(store):
    moments = random.Random(0)
    finished = {}
    for batches in (0, 0, 0, 1, 0):  # batches to wait for before the random moment
        process = start()
        for _ in range(1 + batches):
            line = process.stdout.readline()
            assert "study s" in line or "trials" in line
        wait(process, moments.uniform(0, 0.5))
        process.kill()
        finish(process)
        trials = {trial.number: trial for trial in open_s().trials}
        for number, trial in finished.items():
            assert trials[number].state == trial.state, "finished trials stay finished"
        finished = {number: trial for number, trial in trials.items() if trial.state in DONE}
    assert len(finished) >= BATCH
    status, out, err = finish(start())
    assert status == 0, err
    assert "study s: best val/log_loss" in out and " ui --backend-store-uri " in out
    study = assert_complete()
    assert sum("run_id" in trial.user_attrs for trial in study.trials if trial.state == TrialState.COMPLETE) > 0
    [winner] = search_runs("tags.stage = 'tuned' and attributes.status = 'FINISHED'")
    assert winner.data.tags["study.value"] == repr(study.best_value)


def test_ctrl_c_ends_a_study_with_its_best_so_far_and_status_130(store):
    process = start()
    lines = [process.stdout.readline() for _ in range(2)]
    assert f"{BATCH} of {TRIALS} trials" in lines[1]
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert status == 130 and "study s: best val/log_loss" in out and "-P study=s" in out
    assert "Interrupted" in err and "Traceback" not in err
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "KILLED" and run.data.metrics["trials/complete"] > 0
    assert not running()
    assert finish(start())[0] == 0
    assert_complete()


@pytest.mark.parametrize("seed", range(4))
def test_ctrl_c_at_any_moment_leaves_nothing_running(store, seed):
    process = start()
    assert "study s" in process.stdout.readline() and f"{BATCH} of {TRIALS}" in process.stdout.readline()
    wait(process, random.Random(seed).uniform(0, 0.5))
    process.send_signal(signal.SIGINT)
    status, _, err = finish(process)
    assert status in (0, 130) and "Traceback" not in err
    assert not running()
    assert not [trial for trial in open_s().trials if trial.state == TrialState.RUNNING]


def test_ctrl_c_on_mlflow_run_leaves_nothing_running(store):
    command = ["mlflow", "run", ROOT, "-e", "tune", "--env-manager", "local"]
    command += ["--experiment-name", "abalone", "-P", "study=s", "-P", "trials=33", "-P", "epochs=10"]
    process = popen(command)
    line = process.stdout.readline()
    while "16 of 33" not in line:
        assert line, finish(process)
        line = process.stdout.readline()
    wait(process, 0.3)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, out, _ = finish(process)
    assert status != 0 and "study s: best val/log_loss" in out
    assert not running()
    storage = search_runs("tags.stage = 'tune'")[0].data.tags["storage"]
    study = optuna.load_study(study_name="s", storage=open_storage(storage))
    assert not [trial for trial in study.trials if trial.state == TrialState.RUNNING]


def test_ctrl_c_and_sigterm_end_the_workers_too(store):
    process = start("--workers", "2", "--epochs", str(LONG))
    assert "study s" in process.stdout.readline()
    wait(process, 0.5)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, while the workers begin
    wait(process, 0.3)
    process.send_signal(signal.SIGTERM)  # as ``mlflow run`` does
    status, _, err = finish(process)
    assert status in (130, 143) and "Traceback" not in err
    assert not open_s(LONG).get_trials(states=[TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
    assert not running()


def test_ctrl_c_before_the_workers_are_ready_leaves_no_traceback(store):
    process = start("--workers", "2", "--epochs", str(LONG))
    assert "study s" in process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    status, _, err = finish(process)
    assert status == 130 and "Interrupted" in err and "Traceback" not in err
    assert not running()


def test_two_commands_at_once_share_a_study(store):
    processes = [start(), start()]
    ended = [finish(process) for process in processes]
    assert [status for status, _, _ in ended] == [0, 0], ended
    study = assert_complete(killed=0)
    assert len({tuple(trial.params.values()) for trial in study.trials}) >= TRIALS


def test_workers_share_the_trials(store):
    status, _, err = finish(start("--workers", "2"))
    assert status == 0, err
    study = assert_complete(killed=0)
    runs = [MlflowClient().get_run(trial.user_attrs["run_id"]) for trial in study.trials]
    assert len({run.data.tags["process"].split()[2] for run in runs}) == 2
    assert len({tuple(trial.params.values()) for trial in study.trials}) == TRIALS


def test_workers_end_when_their_parent_is_killed(store):
    process = start("--workers", "2")
    assert "study s" in process.stdout.readline() and "trials" in process.stdout.readline()
    process.kill()
    finish(process)  # returns when the last worker has closed its end of the pipe
    assert finish(start())[0] == 0
    assert_complete()


def test_mlflow_run_tunes_with_its_options(store):
    options = {"task": "regression", "trials": 3, "epochs": 2, "study": "r", "search": "learning_rate,width"}
    arguments = [f"-P{name}={value}" for name, value in options.items()]
    done = warm_mlflow_run("-e", "tune", "--experiment-name", "abalone", *arguments)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 trials" in done.stdout + done.stderr
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.params["trials"] == "3"
    assert run.data.metrics["best_value"] < 4  # rings


@pytest.mark.parametrize(
    ("options", "message"),
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
def test_a_wrong_option_gives_one_message_and_writes_nothing(store, options, message):
    status, _, err = finish(start(*options))
    assert status != 0 and message in err and "Traceback" not in err
    assert not MlflowClient().search_experiments(filter_string="name = 'abalone'")
