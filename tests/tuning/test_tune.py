"""``tune`` as a run: its trials' runs, its page, and its winner."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState
from registry_store import split_of
from stores import copy_store, filling
from tuning_helpers import JOURNAL, make_plan, search_runs, trial_runs_by_status, tune

from abalone.registry.promotion import promote
from abalone.settings import SEARCHED_BY_DEFAULT, StageSettings, UserError
from abalone.tuning.results import count_states
from abalone.tuning.study_run import BEST_SO_FAR

PLAN = make_plan(epochs=10)


@pytest.fixture(scope="module")
def tuned(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """A folder with the store of a study of 20 trials, and what ``tune`` returns."""
    folder = tmp_path_factory.mktemp("tuned")
    with filling(folder, empty_database):
        return folder, tune(PLAN)


@pytest.fixture
def whole_study(tuned: tuple, store: str, own_folder: Path) -> tuple:
    """That study in the store of a test; returns what ``tune`` has returned."""
    folder, returned = tuned
    copy_store(folder, own_folder)
    return returned


def test_every_trial_is_a_run_with_its_own_status_and_curves(whole_study):
    _, study, said = whole_study
    counts = count_states(study)
    assert counts["complete"] + counts["pruned"] == 20 and counts["pruned"] > 0 and not counts["failed"]
    runs = trial_runs_by_status("s")
    assert {status: len(found) for status, found in runs.items()} == {
        "FINISHED": counts["complete"],
        "KILLED": counts["pruned"],
    }
    for run in runs["KILLED"]:
        epochs = len(curve(run.info.run_id))
        assert run.data.tags["pruned"] == f"after epoch {epochs}" and epochs in (2, 4, 6)
    trials = {trial.user_attrs["run_id"]: trial for trial in study.trials}
    for run in runs["FINISHED"]:
        trial = trials[run.info.run_id]
        assert run.data.metrics["val/log_loss"] == trial.value
        assert StageSettings.from_mapping(run.data.params) == PLAN.at(trial.params)
        losses = curve(run.info.run_id)
        assert len(losses) == 10 and min(losses) == pytest.approx(trial.value, abs=1e-5)
    assert "16 of 20 trials" in said[1] and "20 of 20 trials" in said[2]


def test_only_the_winner_is_scored_on_the_test_rows(whole_study):
    result, _, _ = whole_study
    for run in search_runs("tags.study = 's'"):
        has_test_scores = any("test" in name for name in run.data.metrics)
        assert has_test_scores == (run.info.run_id == result.run_id), run.info.run_name


def test_the_run_of_a_study_charts_its_best_value_so_far_by_trial(whole_study):
    _, study, _ = whole_study
    [run] = search_runs("tags.stage = 'tune'")
    points = MlflowClient().get_metric_history(run.info.run_id, BEST_SO_FAR)
    assert [point.step for point in points] == list(range(20))
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    best = [min(trial.value for trial in complete if trial.number <= number) for number in range(20)]
    assert [point.value for point in points] == best


def test_the_run_of_a_study_holds_its_best_trial_counts_and_figures(whole_study):
    result, study, said = whole_study
    [run] = search_runs("tags.stage = 'tune'")
    assert run.data.metrics["best_value"] == study.best_value
    counts = {name.removeprefix("trials/"): n for name, n in run.data.metrics.items() if name.startswith("trials/")}
    assert counts == count_states(study)
    params = {
        "trials": "20",
        "workers": "1",
        "base": "encode",
        "search": ",".join(SEARCHED_BY_DEFAULT),
        "epochs": "10",
    }
    assert params.items() <= run.data.params.items()
    tags = run.data.tags
    assert tags["best.run_id"] == study.best_trial.user_attrs["run_id"] and tags["winner.run_id"] == result.run_id
    assert float(tags["best.learning_rate"]) == pytest.approx(study.best_params["learning_rate"], rel=1e-3)
    files = {file.path for file in MlflowClient().list_artifacts(run.info.run_id)}
    assert files >= {"history.png", "importance.png", "parallel_coordinates.png", "slices.png", "trials.json"}
    assert f"{study.best_value:.4f}" in tags["mlflow.note.content"] and "-P study=s" in said[-1]


def test_the_winner_is_a_nested_stage_run_that_says_how_far_it_is_from_its_trial(whole_study):
    result, study, _ = whole_study
    run = MlflowClient().get_run(result.run_id)
    [parent] = search_runs("tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert StageSettings.from_mapping(run.data.params) == PLAN.at(study.best_params)
    assert {"test/roc_auc", "test/log_loss"} <= run.data.metrics.keys()
    apart = abs(run.data.metrics["val/log_loss"] - study.best_value)
    note = run.data.tags["mlflow.note.content"]
    assert f"a difference of {apart:.1e}" in note and (apart <= 1e-4 or "Why they differ" in note)


def test_the_winner_can_be_promoted(whole_study):
    result, _, _ = whole_study
    [decision] = promote(("classification",), print)
    assert decision.challenger.run_id == result.run_id and decision.promotes


def test_a_study_on_another_split_than_the_champions_says_that_promotion_leaves_its_winner_out(store):
    result, _, said = tune(trials=2)
    assert "leaves out" not in said[-1]
    promote(("classification",), print)
    winner, _, said = tune(make_plan(seed=7), trials=2, name="another")
    split = split_of(winner.run_id)
    assert (
        f"split {split_of(result.run_id)}, that of the champion, and leaves out this run on split {split}" in said[-1]
    )
    assert said[-1].endswith(f"-P experiment=abalone -P task=classification -P split={split}")


def test_a_study_whose_run_cannot_be_filed_writes_nothing(store):
    tune(trials=2, name="earlier")
    before = Path(JOURNAL).read_bytes()
    MlflowClient().delete_experiment("1")
    with pytest.raises(UserError, match="the experiment 'abalone' was deleted; restore it with: mlflow experiments"):
        tune(trials=2)
    with pytest.raises(UserError, match="was deleted"):
        tune(trials=2, storage="sqlite:///studies.db")
    assert Path(JOURNAL).read_bytes() == before and not Path("studies.db").exists()


def curve(run_id: str) -> list[float]:
    """Validation losses of a run by epoch."""
    return [metric.value for metric in MlflowClient().get_metric_history(run_id, "loss/val")]
