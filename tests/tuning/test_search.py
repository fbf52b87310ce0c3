"""The search: counts, reproducibility, limits, divergence, and processes that share a study."""

from __future__ import annotations

import pytest
from data_files import write_diverging_rows
from mlflow import MlflowClient
from optuna.trial import TrialState
from tuning_helpers import BATCH, JOURNAL, make_plan, run_trials, trial_runs_by_status, tune

from abalone.settings import UserError
from abalone.tracking.runs import tracked_run
from abalone.training.history import TrainingDiverged
from abalone.training.population import fit_many
from abalone.tuning.batches import Job, load_without_test, run_batch
from abalone.tuning.pages import outcome
from abalone.tuning.results import count_states, count_trials, setting_importances, trials_table
from abalone.tuning.search import Limits
from abalone.tuning.storage import open_study
from abalone.tuning.tune import Where, run_study, run_tune
from abalone.tuning.winner import train_winner
from abalone.tuning.workers import share_out


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abalone.tuning.batches.BATCH", BATCH)


def test_a_regression_study_starts_from_its_stage_and_ends_no_worse(store):
    plan = make_plan("regress", epochs=5)
    study = run_trials(plan, 6)
    first = study.trials[0]
    assert first.state == TrialState.COMPLETE and plan.at(first.params) == plan.settings
    assert study.best_value <= first.value
    assert study.best_value < 3  # rings


def test_the_same_seed_gives_the_same_study(store, small_batches):
    def run(name: str, **settings):
        study = run_trials(make_plan(**settings), 2 * BATCH + 1, name)
        return [(trial.params, trial.value, trial.state) for trial in study.trials]

    first = run("a")
    assert first == run("b")
    other_seed = run("c", seed=1)
    assert [params for params, *_ in first[1:]] != [params for params, *_ in other_seed[1:]]


def test_the_same_name_resumes_a_study(store):
    study = run_trials(make_plan(), 4)
    before = [(trial.number, trial.value) for trial in study.trials]
    study = run_trials(make_plan(), 7)
    assert [(trial.number, trial.value) for trial in study.trials[:4]] == before
    assert len(study.trials) == 7
    points = [tuple(trial.params.values()) for trial in study.trials]
    assert len(set(points)) == 7  # no point is tried twice


def test_a_finished_study_trains_only_its_winner(store):
    tune(trials=2)
    _, study, _ = tune(trials=2)
    assert len(study.trials) == 2


def test_after_the_timeout_no_batch_starts_but_the_first(store, small_batches):
    plan = make_plan()
    run_tune(plan, Where("s", ""), Limits(trials=40, timeout=1e-9), print)
    assert count_trials(open_study(plan, "s", JOURNAL)) == BATCH


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_study_may_have_a_single_trial_of_a_single_epoch(store):
    result, study, _ = tune(make_plan(epochs=1), trials=1)
    assert study.best_trial.number == 0 and result.metrics["val/log_loss"] == pytest.approx(study.best_value, abs=1e-4)


def test_one_trial_gives_no_importances(store):
    study = run_trials(make_plan(epochs=1), 1)
    assert setting_importances(study) == {}


def test_a_trial_that_diverges_fails_with_the_reason_and_the_study_continues(store):
    reason = "loss/val is inf at the end of epoch 3"

    def third_diverges(settings, *data, stop):
        results = fit_many(settings, *data, stop=stop)
        results[2] = TrainingDiverged(reason, {"loss/val": [0.7, 0.6]})
        return results

    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    with tracked_run("tune", {"stage": "tune", "study": "s"}) as run_id:
        run_study(run_id, study, plan, JOURNAL, Limits(6), print, train=third_diverges)
        train_winner(study, plan)
    assert len(study.trials) == 6 and study.trials[2].state == TrialState.FAIL
    [run] = trial_runs_by_status("s")["FAILED"]
    assert run.data.tags["error"] == reason
    assert [m.value for m in MlflowClient().get_metric_history(run.info.run_id, "loss/val")] == [0.7, 0.6]
    counts = count_states(study)
    assert counts["failed"] == 1 and counts["complete"] + counts["pruned"] == 5


def test_a_training_that_really_diverges_fails_its_trial_with_the_reason(store):
    data = write_diverging_rows("validation", "wild.data")
    with pytest.raises(UserError, match="no winner"):
        tune(make_plan("regress", clip=0.0, data=data), trials=1)
    [run] = trial_runs_by_status("s")["FAILED"]
    assert "training diverged: loss/val is" in run.data.tags["error"] and run.data.params["clip"] == "0.0"


def test_a_study_without_a_complete_trial_has_no_winner_and_says_so(store):
    def all_diverge(settings, *data, stop):
        return [TrainingDiverged("loss/val is nan")] * len(settings)

    plan = make_plan()
    study = open_study(plan, "s", JOURNAL)
    with pytest.raises(UserError, match="no winner"), tracked_run("tune", {"stage": "tune"}) as run_id:
        run_study(run_id, study, plan, JOURNAL, Limits(3), print, train=all_diverge)
        train_winner(study, plan)
    assert outcome(open_study(plan, "s", JOURNAL), plan).startswith("study s: no trial")


def test_a_batch_gives_up_the_trials_that_other_processes_have_asked_for_meanwhile(store):
    plan = make_plan(epochs=1)
    study = open_study(plan, "s", JOURNAL)
    other = open_study(plan, "s", JOURNAL)
    for _ in range(2):
        other.ask(plan.distributions())
    with tracked_run("tune") as run_id:
        run_batch(study, Job(plan, run_id, trials=3), load_without_test(plan.settings), size=3)
    assert [trial.state.name for trial in study.trials] == ["RUNNING", "RUNNING", "COMPLETE", "FAIL", "FAIL"]
    assert count_trials(study) == 3 and count_states(study)["killed"] == 0
    assert list(trials_table(study, plan)["trial"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("trials", "workers", "shares"), [(7, 3, [3, 2, 2]), (4, 2, [2, 2]), (2, 4, [1, 1]), (0, 2, [])]
)
def test_trials_are_shared_out_evenly_among_workers(trials, workers, shares):
    assert share_out(trials, workers) == shares
