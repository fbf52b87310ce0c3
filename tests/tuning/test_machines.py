"""Trials on other machines: heartbeats, waiting for them, and giving them up."""

from __future__ import annotations

from threading import Event

import pytest
from helpers import process_tags_with
from optuna.trial import TrialState
from sqlalchemy import create_engine, text
from tuning_helpers import JOURNAL, make_plan, search_runs, tune

from abalone.settings import UserError
from abalone.tracking.runs import tracked_run
from abalone.training.population import fit_many
from abalone.tuning import heartbeat, waiting
from abalone.tuning.batches import Job, load_without_test, run_batch
from abalone.tuning.dead_trials import fail_dead_trials
from abalone.tuning.heartbeat import record_heartbeat
from abalone.tuning.release import release_trials
from abalone.tuning.results import count_trials
from abalone.tuning.storage import open_study
from abalone.tuning.trial_runs import open_trials

DATABASE = "sqlite:///studies.db"
POD = process_tags_with(host="pod-1")
SMALL = make_plan(epochs=1)
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")


def ask_on_pod(study, run_id: str = ""):
    """A trial that pod-1 has asked for."""
    trial = study.ask(SMALL.distributions())
    record_heartbeat(study, trial)
    trial.set_user_attr("process", POD)
    if run_id:
        trial.set_user_attr("run_id", open_trials(run_id, "s", [trial.number])[0])
    return trial


def let_heartbeats_age(seconds: int) -> None:
    with create_engine(DATABASE).begin() as connection:
        connection.execute(text(f"UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, '-{seconds} seconds')"))


def test_a_trial_of_another_machine_is_made_up_for_when_its_heartbeats_stop(store):
    study = open_study(SMALL, "s", DATABASE)
    with tracked_run("tune", {"study": "s"}) as run_id:
        trial = ask_on_pod(study, run_id)
    let_heartbeats_age(heartbeat.GRACE - 10)
    fail_dead_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    let_heartbeats_age(20)
    fail_dead_trials(study)
    fail_dead_trials(study)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "WAITING"]
    assert study.trials[1].system_attrs["fixed_params"] == trial.params
    [run] = search_runs("tags.stage = 'trial'")
    assert run.info.status == "FAILED" and "nothing was heard of its machine" in run.data.tags["error"]


def test_heartbeats_go_on_while_a_batch_trains(store, monkeypatch):
    study = open_study(SMALL, "s", DATABASE)
    beats = []
    second_round = Event()

    def record(trial_id: int) -> None:
        beats.append(trial_id)
        if beats.count(trial_id) == 3:
            second_round.set()

    def train_slowly(*arguments, **options):
        assert second_round.wait(60)
        return fit_many(*arguments, **options)

    monkeypatch.setattr(study._storage, "get_heartbeat_interval", lambda: 0.01)
    monkeypatch.setattr(study._storage, "record_heartbeat", record)
    with tracked_run("tune") as run_id:
        run_batch(study, Job(SMALL, run_id, 2, train_slowly), load_without_test(SMALL.settings), size=2)
    assert len(set(beats)) == 2


def test_a_result_that_comes_after_its_trial_was_given_up_is_not_counted(store):
    study = open_study(SMALL, "s", DATABASE)

    def lose_first(*arguments, **options):
        let_heartbeats_age(heartbeat.GRACE + 1)
        fail_dead_trials(study)
        return fit_many(*arguments, **options)

    with tracked_run("tune") as run_id:
        run_batch(study, Job(SMALL, run_id, 2, lose_first), load_without_test(SMALL.settings), size=2)
    assert [trial.state.name for trial in study.trials] == ["FAIL", "FAIL", "WAITING", "WAITING"]
    assert {run.info.status for run in search_runs("tags.stage = 'trial'")} == {"FAILED"}


def test_a_study_that_lacks_trials_of_another_machine_fails_and_says_how_to_give_them_up(store, monkeypatch):
    monkeypatch.setattr(waiting, "FEWEST_SECONDS", 0.0)
    ask_on_pod(open_study(SMALL, "s", JOURNAL))
    with pytest.raises(UserError, match=r"2 of 3 trials: others are held by pod-1 \(trial 0\)") as error:
        tune(SMALL, trials=3)
    assert str(error.value).endswith("python -m abalone release --study s --host pod-1")
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FAILED" and run.data.metrics["best_value"] > 0

    said = []
    assert release_trials("s", JOURNAL, "pod-1", said.append) == [0]
    assert "pod-1 (trial 0)" in said[0]
    _, study, _ = tune(SMALL, trials=3)
    assert count_trials(study) == 3
    [run] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and "error" not in run.data.tags


def test_the_machine_that_is_waited_for_is_named(store, monkeypatch):
    monkeypatch.setattr(waiting, "FEWEST_SECONDS", 0.0)
    study = open_study(SMALL, "s", JOURNAL)
    ask_on_pod(study)
    ask_on_pod(study)
    said = []
    waiting.Waiting(said.append).goes_on(study)
    assert said == ["waiting for pod-1 (2 trials, 0 to 1)"]


def test_only_what_a_machine_holds_can_be_released(store):
    ask_on_pod(open_study(SMALL, "s", JOURNAL))
    with pytest.raises(UserError, match=r"pod-2 holds no trial of study 's'; trials that are running: pod-1"):
        release_trials("s", JOURNAL, "pod-2", print)
    with pytest.raises(UserError, match="no study 'other'"):
        release_trials("other", JOURNAL, "pod-1", print)
