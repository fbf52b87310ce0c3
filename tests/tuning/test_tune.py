"""The study: what is searched, what is pruned, what is written, and what a resumed study knows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from functools import partialmethod
from pathlib import Path

import mlflow
import numpy as np
import optuna
import pytest
from mlflow import MlflowClient
from optuna.trial import TrialState

from abalone.data.reading import SHIPPED_FILE, read
from abalone.data.splitting import split
from abalone.registry.promotion import promote
from abalone.settings import STAGES, BadValue, StageSettings, UserError, load_settings
from abalone.tracking.processes import process_tags
from abalone.tracking.runs import run
from abalone.training.history import TrainingDiverged
from abalone.tuning import search
from abalone.tuning.pages import outcome
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.pruning import Pruning
from abalone.tuning.results import count_states, count_trials, setting_importances, trials_table
from abalone.tuning.search import BATCH, Limits, fail_dead_trials, run_batch
from abalone.tuning.storage import PLAN_ATTRIBUTE, open_storage, open_study, quiet, shown
from abalone.tuning.trial_runs import open_trials
from abalone.tuning.tune import Where, run_tune

DEFAULT = ("learning_rate", "gamma", "depth", "weight_decay")
EVERYTHING = (*DEFAULT, "width", "dropout", "batch_size")


def plan(base: str = "encode", names=DEFAULT, **settings) -> Plan:
    return Plan(base, load_settings(base, {"epochs": 10, "device": "cpu", **settings}), read_space(names))


def tune(what: Plan | None = None, trials: int = 20, study: str = "s", storage: str = "") -> tuple:
    """A study in the test's store: result, the study, what was said."""
    what, said = what or plan(), []
    result = run_tune(what, Where(study, storage), Limits(trials), said.append)
    return result, open_study(what, study, storage or "studies.journal"), said


def children(study: str) -> dict[str, list]:
    """Runs of a study's trials by status."""
    found = {}
    for run in MlflowClient().search_runs(["1"], f"tags.study = '{study}' and tags.stage = 'trial'"):
        found.setdefault(run.info.status, []).append(run)
    return found


@pytest.mark.parametrize("base", STAGES)
def test_every_stage_is_a_point_of_the_space_from_which_it_comes_back(base):
    what = plan(base, EVERYTHING)
    for name, distribution in what.distributions().items():
        assert distribution._contains(distribution.to_internal_repr(what.start()[name])), name
    assert what.at(what.start()) == what.experiment


def test_a_point_becomes_settings_and_the_lowest_weight_decays_none():
    point = {"learning_rate": 0.01, "gamma": 0.9, "depth": 2, "weight_decay": 9e-6, "width": 16, "batch_size": 128}
    assert plan(names=tuple(point)).at(point) == replace(
        plan().experiment, learning_rate=0.01, gamma=0.9, hidden_sizes=(16, 16), weight_decay=0.0, batch_size=128
    )
    assert plan().at({"weight_decay": 2e-5}).weight_decay == 2e-5


def test_what_is_not_searched_stays_as_in_the_base():
    assert plan("dropout", ["gamma"]).at({"gamma": 0.9}) == replace(plan("dropout").experiment, gamma=0.9)


@pytest.mark.parametrize(("names", "complaint"), [(["seed"], "'seed' cannot be searched"), ([], "nothing to search")])
def test_what_cannot_be_searched_is_named(names, complaint):
    with pytest.raises(BadValue, match=complaint):
        read_space(names)


class Known:
    """A study with trials that had these best values at epoch 2."""

    def __init__(self, values):
        self.values = values

    def get_trials(self, deepcopy):
        return [optuna.trial.create_trial(value=v, intermediate_values={2: v}) for v in self.values]


class Asked:
    def __init__(self, params, study):
        self.params, self.study = params, study

    def report(self, value, step):
        self.study.values.append(value)


def prune(losses: list[list[float]], known: list[float], base: str = "encode", with_base: bool = False) -> list[set]:
    """Places that end at each epoch; the first of them is the base stage, if it is there."""
    study, what = Known(known), plan(base)
    trials = [Asked(what.start() if with_base and k == 0 else {}, study) for k in range(len(losses[0]))]
    pruning = Pruning(study, what, trials)
    return [pruning(epoch, np.array(row)) for epoch, row in enumerate(losses, 1)]


def test_at_a_rung_the_worse_half_ends_by_the_best_that_each_has_had():
    assert prune([[0.9, 0.1, 0.5, 0.6, 0.7], [0.2, 0.8, 0.5, 0.6, 0.7]], []) == [set(), {3, 4}]


def test_earlier_trials_count_and_those_that_have_left_do_not():
    assert prune([[0.5, np.nan, 0.3]] * 2, [0.1, 0.2, 0.4]) == [set(), {0}]


def test_the_base_always_goes_on_and_few_trials_are_no_ground_to_prune():
    assert prune([[0.9, 0.1, 0.1, 0.1, 0.2]] * 2, [], with_base=True) == [set(), {4}]
    assert prune([[0.9, 0.1, 0.2, 0.3]] * 2, []) == [set(), set()]


def test_regressors_are_compared_in_rings_which_earlier_values_are_in():
    assert prune([[4.0, 9.0]] * 2, [2.5, 2.5, 2.5], base="regress") == [set(), {1}]


def test_a_study_is_runs_within_a_run_and_every_trial_what_it_was(store):
    _, study, said = tune()
    counts = count_states(study)
    assert counts["complete"] + counts["pruned"] == 20 and counts["pruned"] > 0 and not counts["failed"]
    runs = children("s")
    assert {status: len(found) for status, found in runs.items()} == {
        "FINISHED": counts["complete"],
        "KILLED": counts["pruned"],
    }
    for run in runs["KILLED"]:
        epochs = len(MlflowClient().get_metric_history(run.info.run_id, "loss/val"))
        assert run.data.tags["pruned"] == f"after epoch {epochs}" and epochs in (2, 4, 6)
    by_id = {t.user_attrs["run_id"]: t for t in study.trials}
    for run in runs["FINISHED"]:
        trial, experiment = by_id[run.info.run_id], plan().at(by_id[run.info.run_id].params)
        assert run.data.metrics["log_loss/val"] == trial.value
        assert StageSettings.from_mapping(run.data.params) == experiment
        curve = [m.value for m in MlflowClient().get_metric_history(run.info.run_id, "loss/val")]
        assert len(curve) == 10 and min(curve) == pytest.approx(trial.value, abs=1e-5)
    assert "16 of 20 trials" in said[1] and "20 of 20 trials" in said[2]


def test_nothing_of_a_study_but_its_winner_has_seen_the_test_rows(store):
    result, _, _ = tune()
    for run in MlflowClient().search_runs(["1"], "tags.study = 's'"):
        of_test = [name for name in run.data.metrics if "test" in name]
        assert bool(of_test) == (run.info.run_id == result.run_id), run.info.run_name


def test_the_study_holds_what_won_and_what_it_depends_on(store):
    result, study, said = tune()
    client = MlflowClient()
    [run] = client.search_runs(["1"], "tags.stage = 'tune'")
    assert run.data.metrics["best_value"] == study.best_value
    counts = {name.removeprefix("trials/"): n for name, n in run.data.metrics.items() if name.startswith("trials/")}
    assert counts == count_states(study)
    params = {"trials": "20", "workers": "1", "base": "encode", "search": ",".join(DEFAULT), "epochs": "10"}
    assert params.items() <= run.data.params.items()
    tags = run.data.tags
    assert tags["best.run_id"] == study.best_trial.user_attrs["run_id"] and tags["winner.run_id"] == result.run_id
    assert float(tags["best.learning_rate"]) == pytest.approx(study.best_params["learning_rate"], rel=1e-3)
    files = {f.path for f in client.list_artifacts(run.info.run_id)}
    assert files >= {"history.png", "importance.png", "parallel_coordinates.png", "slices.png", "trials.json"}
    assert f"{study.best_value:.4f}" in tags["mlflow.note.content"] and "-P study=s" in said[-1]


def test_the_winner_is_a_stage_run_that_says_how_far_it_is_from_the_study(store):
    result, study, _ = tune()
    client = MlflowClient()
    run = client.get_run(result.run_id)
    [parent] = client.search_runs(["1"], "tags.stage = 'tune'")
    assert run.info.status == "FINISHED" and run.data.tags["mlflow.parentRunId"] == parent.info.run_id
    assert StageSettings.from_mapping(run.data.params) == plan().at(study.best_params)
    assert {"roc_auc/test", "log_loss/test"} <= run.data.metrics.keys()
    apart = abs(run.data.metrics["log_loss/val"] - study.best_value)
    note = run.data.tags["mlflow.note.content"]
    assert f"{apart:.1e} apart" in note and (apart <= 1e-4 or "Why they differ" in note)


def test_the_winner_can_be_promoted(store):

    result, _, _ = tune()
    [decision] = promote(("classification",), lambda text: None)
    assert decision.challenger.run_id == result.run_id and decision.promotes


def test_a_regression_study_starts_at_its_stage_and_ends_no_worse(store):
    what = plan("regress")
    _, study, _ = tune(what, trials=6)
    first = study.trials[0]
    assert first.state == TrialState.COMPLETE and what.at(first.params) == what.experiment
    assert study.best_value <= first.value
    assert study.best_value < 3  # rings


def test_with_the_same_seed_a_study_comes_out_twice(store):
    def outcome(name: str, **settings):
        _, study, _ = tune(plan(**settings), trials=17, study=name)
        return [(t.params, t.value, t.state) for t in study.trials]

    first = outcome("a")
    assert first == outcome("b")
    assert [params for params, *_ in first[1:]] != [params for params, *_ in outcome("c", seed=1)[1:]]


def test_the_same_name_goes_on_where_the_study_ended(store):
    _, study, _ = tune(trials=6)
    before = [(t.number, t.value) for t in study.trials]
    _, study, _ = tune(trials=9)
    assert [(t.number, t.value) for t in study.trials[:6]] == before
    assert len(study.trials) == 9
    points = [tuple(t.params.values()) for t in study.trials]
    assert len(set(points)) == 9  # and does not ask for the same again


def test_a_finished_study_trains_nothing_but_its_winner(store):
    tune(trials=6)
    _, study, _ = tune(trials=6)
    assert len(study.trials) == 6


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"what": plan("regress")}, "base = encode, not regress"),
        ({"what": plan(seed=7)}, "settings.seed = 0, not 7"),
        ({"what": plan(names=["gamma"])}, "space.depth"),
    ],
    ids=["task", "seed", "space"],
)
def test_a_study_of_something_else_is_refused_and_nothing_is_written(store, change, named):
    tune(trials=6)
    before = len(MlflowClient().search_runs(["1"])), Path("studies.journal").read_bytes()
    with pytest.raises(UserError, match=named):
        tune(**change)
    assert (len(MlflowClient().search_runs(["1"])), Path("studies.journal").read_bytes()) == before


@pytest.mark.parametrize(
    "storage",
    [
        "sqlite:////no/such/folder/x.db",
        "postgresql://me:secret@127.0.0.1:1/studies",
        "nonsense://x",
        "/no/such/journal",
    ],
)
def test_a_storage_that_cannot_be_used_is_named_without_its_password(store, storage):
    with pytest.raises(UserError, match="cannot be used") as error:
        tune(storage=storage)
    assert "secret" not in str(error.value)
    assert not MlflowClient().search_experiments(filter_string="name = 'abalone'")


def test_a_database_serves_as_storage_too(store):
    _, study, _ = tune(trials=6, storage="sqlite:///studies.db")
    assert len(study.trials) == 6 and not Path("studies.journal").exists()


def test_a_trial_that_diverges_has_failed_with_the_reason_and_the_study_goes_on(store, monkeypatch):
    train = tuning.fit_many

    def diverge(experiments, *data, stop):
        results = train(experiments, *data, stop=stop)
        return [
            *results[:2],
            TrainingDiverged("loss/val is inf at the end of epoch 3", {"loss/val": [0.7, 0.6]}),
            *results[3:],
        ]

    monkeypatch.setattr(tuning, "fit_many", diverge)
    _, study, _ = tune(trials=6)
    assert len(study.trials) == 6 and study.trials[2].state == TrialState.FAIL
    [run] = children("s")["FAILED"]
    assert run.data.tags["error"] == "loss/val is inf at the end of epoch 3"
    assert [m.value for m in MlflowClient().get_metric_history(run.info.run_id, "loss/val")] == [0.7, 0.6]
    counts = count_states(study)
    assert counts["failed"] == 1 and counts["complete"] + counts["pruned"] == 5


def test_an_interrupted_study_keeps_what_is_done_and_tries_the_rest_again(store, monkeypatch):
    train, calls = tuning.fit_many, []

    def interrupt(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*arguments, **options)

    monkeypatch.setattr(tuning, "fit_many", interrupt)
    with pytest.raises(KeyboardInterrupt):
        tune(trials=20)
    study = open_study(plan(), "s", "studies.journal")
    assert count_trials(study) == 16 and count_states(study)["killed"] == 4
    assert len(children("s")["FAILED"]) == 4 and "RUNNING" not in children("s")
    [run] = MlflowClient().search_runs(["1"], "tags.stage = 'tune'")
    assert run.info.status == "KILLED" and run.data.metrics["best_value"] == study.best_value
    lost = [t.params for t in study.trials if t.state == TrialState.FAIL]
    _, study, _ = tune(trials=20)
    assert count_trials(study) == 20 and [t.params for t in study.trials[-4:]] == lost


def test_trials_of_a_process_that_is_no_more_have_failed_and_those_of_a_living_one_go_on(store):
    what = plan()
    study = open_study(what, "s", "studies.journal")
    here, pid = process_tags(), "process.pid"
    told = [
        {**here, pid: str(2**22 + 1)},
        here,
        {**here, "process.host": "elsewhere"},
        {**here, "process.started": "1"},
    ]  # the first above Linux's highest; the last had this process's number before it
    with run("tune", {"study": "s"}) as run_id:
        trials = [study.ask(what.distributions()) for _ in told]
        runs = open_trials(run_id, "s", [0, 1, 2, 3])
        for trial, trial_run, process in zip(trials, runs, told):
            trial.set_user_attr("process", process)
            trial.set_user_attr("run_id", trial_run)
        fail_dead_trials(study)
    assert [t.state.name for t in study.trials[:4]] == ["FAIL", "RUNNING", "RUNNING", "FAIL"]
    assert [MlflowClient().get_run(run).info.status for run in runs] == ["FAILED", "RUNNING", "RUNNING", "FAILED"]
    assert study.trials[4].state == TrialState.WAITING and study.trials[4].system_attrs["fixed_params"] == what.start()


def test_a_base_stage_that_was_being_asked_for_when_the_process_died_is_tried_again(store, monkeypatch):
    study = open_study(plan(), "s", "studies.journal")
    study.ask()  # takes the waiting trial; of its settings none has been asked for yet
    monkeypatch.setattr(search, "SAYING_WHO", timedelta(0))
    fail_dead_trials(study)
    assert study.trials[1].system_attrs["fixed_params"] == plan().start()


def test_a_study_goes_on_though_the_runs_of_its_killed_trials_were_deleted(store):
    study = open_study(plan(), "s", "studies.journal")
    with run("tune", {"study": "s"}) as run_id:
        trial = study.ask(plan().distributions())
        [trial_run] = open_trials(run_id, "s", [0])
        trial.set_user_attr("process", {**process_tags(), "process.pid": str(2**22 + 1)})
        trial.set_user_attr("run_id", trial_run)
    MlflowClient().delete_run(trial_run)
    _, study, _ = tune(trials=2)
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE"]


def test_a_winner_whose_trial_has_no_run_any_more_is_trained_and_says_so(store, empty_database, monkeypatch):
    tune(trials=2)
    shutil.copy(empty_database, "other.db")
    mlflow.set_tracking_uri("sqlite:///other.db")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)  # which MLflow has set for its children
    result, _, _ = tune(trials=2)
    assert "run of its trial is gone" in MlflowClient().get_run(result.run_id).data.tags["mlflow.note.content"]


def test_a_study_that_goes_on_has_all_its_trials_below_its_new_run(store, monkeypatch):
    tune(trials=3, study="it's mine")
    pages_of_two = partialmethod(MlflowClient.search_runs, max_results=2)
    monkeypatch.setattr(trial_runs, "MlflowClient", type("Client", (MlflowClient,), {"search_runs": pages_of_two}))
    tune(trials=4, study="it's mine")
    new, old = MlflowClient().search_runs(["1"], "tags.stage = 'tune'", order_by=["attributes.start_time DESC"])
    trials = MlflowClient().search_runs(["1"], "tags.stage = 'trial'")
    parents = {run.data.tags["mlflow.parentRunId"] for run in trials}
    assert len(trials) == 4 and parents == {new.info.run_id} and old.data.tags["continued_by"] == new.info.run_id


def test_a_tracking_database_is_no_storage_for_a_study(store, own_folder):
    before = (own_folder / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match="is a tracking database of MLflow"):
        open_study(plan(), "s", store)
    assert (own_folder / "mlflow.db").read_bytes() == before


def test_no_batch_begins_after_the_time_but_the_first(store):
    what, said = plan(), []
    run_tune(what, Where("s", ""), Limits(trials=40, timeout=1e-9), said.append)
    assert count_trials(open_study(what, "s", "studies.journal")) == BATCH


def test_a_trial_that_really_diverges_has_failed_with_the_reason(store):
    lines, row = SHIPPED_FILE.read_text().splitlines(), split(read(), 0).val[0]
    cells = lines[row].split(",")
    Path("wild.data").write_text(
        "\n".join([*lines[:row], ",".join([*cells[:3], "3e38", *cells[4:]]), *lines[row + 1 :]])
    )
    what = plan("regress", clip=0.0, data="wild.data")
    with pytest.raises(UserError, match="no winner"):
        tune(what, trials=1)
    [run] = children("s")["FAILED"]
    assert "training diverged: loss/val is" in run.data.tags["error"] and run.data.params["clip"] == "0.0"


def test_a_trial_asked_for_a_moment_ago_is_not_taken_for_dead_before_it_has_said_whose_it_is(store, monkeypatch):
    study = open_study(plan(), "s", "studies.journal")
    study.ask(plan().distributions())
    fail_dead_trials(study)
    assert study.trials[0].state == TrialState.RUNNING
    monkeypatch.setattr(search, "SAYING_WHO", timedelta(0))
    fail_dead_trials(study)
    assert study.trials[0].state == TrialState.FAIL


def test_a_study_whose_process_died_while_it_was_made_is_made_whole(store):
    with quiet():
        optuna.create_study(storage=open_storage("studies.journal"), study_name="s")
    study = open_study(plan(), "s", "studies.journal")
    assert study.user_attrs[PLAN_ATTRIBUTE]["base"] == "encode"
    assert [t.system_attrs["fixed_params"] for t in study.trials] == [plan().start()]


def test_a_study_of_another_program_is_left_alone(store):
    other = optuna.create_study(storage=open_storage("studies.journal"), study_name="s")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    before = Path("studies.journal").read_bytes()
    with pytest.raises(UserError, match="'s' is not one of abalone's"):
        open_study(plan(), "s", "studies.journal")
    assert Path("studies.journal").read_bytes() == before


def test_who_joins_a_study_asks_for_other_points_than_who_began_it(store):
    what = plan()
    first, second = (open_study(what, "s", "studies.journal") for _ in range(2))
    points = [tuple(study.ask(what.distributions()).params.values()) for study in (first, second) * 4]
    assert len(set(points)) == 8


def test_a_batch_gives_up_what_others_have_asked_for_meanwhile(store):
    what = plan(epochs=1)
    study, other = (open_study(what, "s", "studies.journal") for _ in range(2))
    for _ in range(2):
        other.ask(what.distributions())
    dataset = tuning.read("uci")
    data = tuning.encode(dataset.frame), dataset.frame["Rings"].to_numpy(), tuning.split(dataset, 0)
    with run("tune", {}) as run_id:
        run_batch(study, what, data, run_id, size=3, total=3)
    assert [t.state.name for t in study.trials] == ["RUNNING", "RUNNING", "COMPLETE", "FAIL"]
    assert count_trials(study) == 3 and count_states(study)["killed"] == 0
    assert list(trials_table(study, what)["trial"]) == [0, 1, 2]


def test_what_a_study_depends_on_is_not_made_up_from_one_trial(store):
    _, study, _ = tune(plan(epochs=1), trials=1)
    assert setting_importances(study) == {}


def test_the_password_of_a_storage_is_not_shown():
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("some/path.journal") == "some/path.journal"


@pytest.mark.filterwarnings("error::UserWarning")
def test_a_study_of_one_trial_of_one_epoch_is_a_study(store):
    result, study, _ = tune(plan(epochs=1), trials=1)
    assert study.best_trial.number == 0 and result.metrics["log_loss/val"] == pytest.approx(study.best_value, abs=1e-4)


def test_a_study_with_no_complete_trial_has_no_winner_and_says_so(store, monkeypatch):
    monkeypatch.setattr(
        tuning, "fit_many", lambda experiments, *data, stop: [TrainingDiverged("loss/val is nan")] * len(experiments)
    )
    with pytest.raises(UserError, match="no winner"):
        tune(trials=3)
    assert outcome(open_study(plan(), "s", "studies.journal"), plan(), "s").startswith("study s: no trial")
