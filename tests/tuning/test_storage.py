"""Opening a study: new, resumed, joined, refused; and the storages that it may be kept in."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from mlflow import MlflowClient
from optuna.storages import RDBStorage
from sqlalchemy.exc import IntegrityError
from tuning_helpers import JOURNAL, make_plan, run_trials, search_runs, tune

from abalone.settings import UserError
from abalone.tuning.optuna_logging import quiet_optuna
from abalone.tuning.storage import CREATOR_ATTRIBUTE, PLAN_ATTRIBUTE, hide_password, open_storage, open_study


@pytest.mark.parametrize(
    ("plan", "difference"),
    [
        (make_plan("regress"), "base = encode, not regress"),
        (make_plan(seed=7), "settings.seed = 0, not 7"),
        (make_plan(names=["gamma"]), "with space.depth = .*, which is not searched now"),
        (make_plan(names=["learning_rate", "gamma", "depth", "weight_decay", "width"]), "without space.width"),
    ],
    ids=["task", "seed", "smaller space", "larger space"],
)
def test_a_study_with_another_plan_is_refused_and_nothing_is_written(store, plan, difference):
    run_trials(make_plan(), 2, "other")
    open_study(make_plan(), "s", JOURNAL)
    before = len(search_runs()), Path(JOURNAL).read_bytes()
    with pytest.raises(UserError, match=difference):
        tune(plan)
    assert (len(search_runs()), Path(JOURNAL).read_bytes()) == before


def test_a_study_from_before_units_and_target_were_settings_goes_on(own_folder):
    study = open_study(make_plan(), "s", JOURNAL)
    plan = study.user_attrs[PLAN_ATTRIBUTE]
    for key in ("units", "target"):
        del plan["settings"][key]
    study.set_user_attr(PLAN_ATTRIBUTE, plan)
    assert open_study(make_plan(), "s", JOURNAL).study_name == "s"
    with pytest.raises(UserError, match=r"settings\.units = file, not mm_g"):
        open_study(make_plan(units="mm_g"), "s", JOURNAL)


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


def test_the_password_of_a_storage_is_hidden():
    assert hide_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert hide_password("some/path.journal") == "some/path.journal"


def test_a_study_may_be_kept_in_a_database(store):
    _, study, _ = tune(trials=2, storage="sqlite:///studies.db")
    assert len(study.trials) == 2 and not Path(JOURNAL).exists()


def test_a_tracking_database_is_refused_as_storage_and_left_untouched(store, own_folder):
    before = (own_folder / "mlflow.db").read_bytes()
    with pytest.raises(UserError, match="is an MLflow tracking database"):
        open_study(make_plan(), "s", store)
    assert (own_folder / "mlflow.db").read_bytes() == before


def test_a_study_that_another_process_is_creating_is_not_begun_twice(store, monkeypatch):
    with quiet_optuna():
        creator = optuna.create_study(storage=open_storage(JOURNAL), study_name="s")
    creator.set_user_attr(CREATOR_ATTRIBUTE, "the other process")

    def let_the_creator_go_on(seconds):
        creator.enqueue_trial(make_plan().start())
        creator.set_user_attr(PLAN_ATTRIBUTE, make_plan().as_attributes())

    monkeypatch.setattr("abalone.tuning.storage.time.sleep", let_the_creator_go_on)
    study = open_study(make_plan(), "s", JOURNAL)
    assert study.user_attrs[CREATOR_ATTRIBUTE] == "the other process"
    assert len(study.trials) == 1


def test_a_study_whose_creator_was_killed_is_completed(store, monkeypatch):
    monkeypatch.setattr("abalone.tuning.storage.CREATING_SECONDS", 0)
    with quiet_optuna():
        optuna.create_study(storage=open_storage(JOURNAL), study_name="s")
    study = open_study(make_plan(), "s", JOURNAL)
    assert study.user_attrs[PLAN_ATTRIBUTE]["base"] == "encode"
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [make_plan().start()]


def test_a_study_of_another_program_is_refused_and_left_untouched(store, monkeypatch):
    monkeypatch.setattr("abalone.tuning.storage.CREATING_SECONDS", 0)
    other = optuna.create_study(storage=open_storage(JOURNAL), study_name="s")
    other.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    before = Path(JOURNAL).read_bytes()
    with pytest.raises(UserError, match="'s' was not created by abalone"):
        open_study(make_plan(), "s", JOURNAL)
    assert Path(JOURNAL).read_bytes() == before


def test_a_process_that_joins_a_study_asks_for_points_of_its_own(store):
    plan = make_plan()
    first = open_study(plan, "s", JOURNAL)
    second = open_study(plan, "s", JOURNAL)
    points = [tuple(study.ask(plan.distributions()).params.values()) for study in (first, second) * 4]
    assert len(set(points)) == 8


def test_of_several_processes_that_create_the_tables_at_once_none_fails(own_folder, monkeypatch):
    """PostgreSQL refuses all but one with an error like this one; the tables then exist."""
    refusals = [IntegrityError("CREATE TABLE", None, Exception("duplicate key")) for _ in range(3)]

    def create(*arguments: object, **options: object) -> RDBStorage:
        if refusals:
            raise refusals.pop()
        return RDBStorage(*arguments, **options)

    monkeypatch.setattr("abalone.tuning.storage.RDBStorage", create)
    assert open_storage("sqlite:///studies.db").get_all_studies() == []
