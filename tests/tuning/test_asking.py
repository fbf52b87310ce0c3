"""A batch of trials: the same settings as asked for one at a time, with a fraction of the statements."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
from optuna.trial import TrialState
from tuning_helpers import make_plan

from abalone.tracking.processes import process_tags
from abalone.tracking.runs import tracked_run
from abalone.training.history import TrainingDiverged
from abalone.tuning.asking import ask
from abalone.tuning.batches import BATCH, Job, load_without_test, run_batch
from abalone.tuning.plan import Plan
from abalone.tuning.storage import open_study
from benchmarks.wire import counted_statements

PLAN = make_plan()


def asked_one_at_a_time(study: optuna.Study, size: int) -> Iterator[optuna.Trial]:
    for _ in range(size):
        yield study.ask(PLAN.distributions())


def settings_of(name: str, batch) -> list[dict]:
    """Settings of the trials of three batches of a new study, each of which is told before the next is asked for."""
    study = open_study(PLAN, name, "studies.journal")
    found = []
    for _ in range(3):
        trials = list(batch(study))
        for trial in trials:
            study.tell(trial, trial.params["learning_rate"] + trial.params["gamma"])
        found += [trial.params for trial in trials]
    return found


def test_a_batch_has_the_settings_that_its_trials_would_have_one_at_a_time(store):
    one_at_a_time = settings_of("one at a time", lambda study: asked_one_at_a_time(study, 12))
    together = settings_of("together", lambda study: ask(study, PLAN.distributions(), 12))
    assert together == one_at_a_time and len({str(found) for found in together}) == 36


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("storage", ["studies.journal", "sqlite:///studies.db"])  # the first study is 0, or 1
def test_a_batch_takes_the_trials_that_wait_first_and_names_this_process(store, storage):
    study = open_study(PLAN, "s", storage)  # the base stage waits
    trials = list(ask(study, PLAN.distributions(), 3))
    assert [trial.number for trial in trials] == [0, 1, 2] and trials[0].params == PLAN.start()
    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        assert trial.user_attrs["process"] == process_tags() and trial.params.keys() == PLAN.space.keys()
    study.enqueue_trial(PLAN.start())
    assert next(ask(study, PLAN.distributions(), 1)).params == PLAN.start()


@pytest.mark.filterwarnings("ignore")
def test_a_trial_that_another_process_takes_first_is_drawn_instead(store, monkeypatch):
    study = open_study(PLAN, "s", "sqlite:///studies.db")
    [first, second] = ask(study, PLAN.distributions(), 2)
    study.enqueue_trial(PLAN.start())
    waiting = study.get_trials(states=(TrialState.WAITING,))
    taken = study.ask(PLAN.distributions())
    monkeypatch.setattr(study, "get_trials", lambda **options: waiting)
    [drawn] = ask(study, PLAN.distributions(), 1)
    assert drawn.number == taken.number + 1 and drawn.params not in (first.params, second.params, taken.params)


def statements_per_trial(plan: Plan, study: optuna.Study, run_id: str) -> float:
    """Statements of a batch in a database, without those of its training, for each trial."""

    def all_diverge(settings, *data, stop):
        return [TrainingDiverged("loss/val is nan")] * len(settings)

    job = Job(plan, run_id, trials=1000, train=all_diverge)
    with counted_statements() as statements:
        run_batch(study, job, load_without_test(plan.settings), BATCH)
    [of_optuna] = [count for database, count in statements.items() if database.endswith("optuna.db")]
    return of_optuna / BATCH


@pytest.mark.filterwarnings("ignore")
def test_a_trial_takes_forty_statements_however_many_there_are(store, own_folder):
    study = open_study(PLAN, "s", f"sqlite:///{own_folder}/optuna.db")
    with tracked_run("tune", {"stage": "tune", "study": "s"}) as run_id:
        first = statements_per_trial(PLAN, study, run_id)
        second = statements_per_trial(PLAN, study, run_id)
    assert second <= first < 40
