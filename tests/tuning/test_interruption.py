"""Studies whose process was interrupted or killed, and what a later process makes of them."""

from __future__ import annotations

import shutil
import subprocess
from datetime import timedelta

import mlflow
import pytest
from helpers import ROOT, process_tags_with
from mlflow import MlflowClient
from optuna.trial import TrialState
from tuning_helpers import BATCH, JOURNAL, make_plan, search_runs, trial_runs_by_status, tune
from warm_processes import PYTHON, warm_environment

from abalone.tracking.processes import process_tags
from abalone.tracking.runs import RunOptions, tracked_run
from abalone.training.population import fit_many
from abalone.tuning.dead_trials import fail_dead_trials, fail_trial
from abalone.tuning.results import count_states, count_trials
from abalone.tuning.search import Limits
from abalone.tuning.shared_run import shared_run
from abalone.tuning.storage import open_study
from abalone.tuning.trial_runs import open_trials
from abalone.tuning.tune import run_study

NO_PROCESS = str(2**22 + 1)  # above Linux's highest process id


def test_an_interrupted_study_keeps_its_results_and_requeues_the_rest(store, monkeypatch):
    monkeypatch.setattr("abalone.tuning.batches.BATCH", BATCH)
    calls = []

    def interrupt_second_batch(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return fit_many(*arguments, **options)

    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    tags = {"stage": "tune", "study": "s"}
    with pytest.raises(KeyboardInterrupt), shared_run(study, "tune", tags, RunOptions()) as run_id:
        run_study(run_id, study, plan, JOURNAL, Limits(BATCH + 4), print, train=interrupt_second_batch)
    study = open_study(plan, "s", JOURNAL)
    assert count_trials(study) == BATCH and count_states(study)["killed"] == 4
    runs = trial_runs_by_status("s")
    assert len(runs["FAILED"]) == 4 and "RUNNING" not in runs
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "KILLED" and run.data.metrics["best_value"] == study.best_value

    lost = [trial.params for trial in study.trials if trial.state == TrialState.FAIL]
    _, study, _ = tune(trials=BATCH + 4)
    assert count_trials(study) == BATCH + 4 and [trial.params for trial in study.trials[-4:]] == lost


def test_trials_of_a_dead_process_fail_and_those_of_a_living_one_go_on(store):
    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    here = process_tags()
    processes = {
        "dead": process_tags_with(pid=NO_PROCESS),
        "this one": here,
        "on another machine": process_tags_with(host="elsewhere"),
        "dead, its id reused": process_tags_with(start="1"),
    }
    with tracked_run("tune", {"study": "s"}) as run_id:
        trials = [study.ask(plan.distributions()) for _ in processes]
        runs = open_trials(run_id, "s", [0, 1, 2, 3])
        for trial, trial_run, process in zip(trials, runs, processes.values()):
            trial.set_user_attr("process", process)
            trial.set_user_attr("run_id", trial_run)
        fail_dead_trials(study)
    assert [trial.state.name for trial in study.trials[:4]] == ["FAIL", "RUNNING", "RUNNING", "FAIL"]
    statuses = [MlflowClient().get_run(run).info.status for run in runs]
    assert statuses == ["FAILED", "RUNNING", "RUNNING", "FAILED"]
    requeued = study.trials[4]
    assert requeued.state == TrialState.WAITING and requeued.system_attrs["fixed_params"] == plan.start()


def test_a_base_stage_whose_process_died_while_asking_for_it_is_requeued(store):
    study = open_study(make_plan(), "s", JOURNAL)
    study.ask()  # takes the waiting trial, but none of its parameters yet
    fail_dead_trials(study, grace=timedelta(0))
    assert study.trials[1].system_attrs["fixed_params"] == make_plan().start()


def test_a_trial_that_names_no_process_yet_is_alive_for_a_moment(store):
    study = open_study(make_plan(), "s", JOURNAL)
    study.ask(make_plan().distributions())
    fail_dead_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    fail_dead_trials(study, grace=timedelta(0))
    assert study.trials[0].state == TrialState.FAIL


def test_a_study_resumes_although_the_runs_of_its_killed_trials_were_deleted(store):
    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    with tracked_run("tune", {"study": "s"}) as run_id:
        trial = study.ask(plan.distributions())
        [trial_run] = open_trials(run_id, "s", [0])
        trial.set_user_attr("process", process_tags_with(pid=NO_PROCESS))
        trial.set_user_attr("run_id", trial_run)
    MlflowClient().delete_run(trial_run)
    _, study, _ = tune(trials=2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_winner_is_trained_although_the_run_of_its_trial_was_deleted_and_says_so(store, empty_database, monkeypatch):
    tune(trials=2)
    shutil.copy(empty_database, "other.db")
    mlflow.set_tracking_uri("sqlite:///other.db")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)  # MLflow has set it for its child processes
    result, _, _ = tune(trials=2)
    note = MlflowClient().get_run(result.run_id).data.tags["mlflow.note.content"]
    assert "The run of the trial was deleted" in note


def test_two_processes_that_find_the_same_dead_trial_requeue_it_once(store):
    study = open_study(make_plan(), "s", JOURNAL)
    trial = study.ask(make_plan().distributions())
    assert fail_trial(study, trial.number, trial.params, "", "killed")
    assert not fail_trial(study, trial.number, trial.params, "", "killed")
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]


def test_the_run_of_a_trial_that_the_study_never_heard_of_is_ended_with_the_study(store):
    study = open_study(make_plan(), "s", JOURNAL)
    with shared_run(study, "tune", {"stage": "tune", "study": "s"}, RunOptions()) as run_id:
        [left] = open_trials(run_id, "s", [0])
    tune(trials=2)
    assert MlflowClient().get_run(left).info.status == "FAILED"


INTERRUPTED_WORKER = """
import os, signal, sys, time
from types import SimpleNamespace
from abalone.tuning import workers

class Stopped:
    def __del__(self):
        os.kill(os.getpid(), getattr(signal, sys.argv[1]))

def open_study(*arguments, **options):
    Stopped()
    time.sleep(60)

workers.open_study = open_study
workers._work(SimpleNamespace(plan=None), "s", "", 0, 1, 60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_that_arrives_in_a_del_ends_a_worker_too(name):
    env = {**warm_environment(), "PYTHONPATH": str(ROOT)}
    command = [PYTHON, "-c", INTERRUPTED_WORKER, name]
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
