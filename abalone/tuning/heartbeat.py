"""Heartbeats of the trials that this process works on.

Optuna's database storages keep a time for every trial and fail those that have not been heard of for a while, by the
clock of the database. That tells which trials a machine has lost, on any machine. Optuna records heartbeats by itself
only under ``optimize``; a journal file has none, there the process tags of ``dead_trials.py`` tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread

import optuna
from optuna.storages._heartbeat import BaseHeartbeat

from abalone.tuning.retry import retry

INTERVAL = 10  # seconds
GRACE = 60  # seconds without a heartbeat after which a trial counts as lost; longer than a call is tried again


@contextmanager
def heartbeats(study: optuna.Study, trials: Collection[optuna.Trial]) -> Iterator[None]:
    """Record heartbeats within the block.

    Parameters
    ----------
    study : optuna.Study
    trials : collection of Trial
        Read again for every beat, so that it may grow and shrink meanwhile.
    """
    storage = _keeper(study)
    if storage is None:
        yield
        return
    ended = Event()
    thread = Thread(target=_beat, args=(storage, trials, ended), name="heartbeats", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def record_heartbeat(study: optuna.Study, trial: optuna.Trial) -> None:
    """Record the first heartbeat of a trial, without which Optuna does not watch it."""
    storage = _keeper(study)
    if storage is not None:
        retry(storage.record_heartbeat)(trial._trial_id)


def has_heartbeats(study: optuna.Study) -> bool:
    """Whether the storage of a study keeps heartbeats."""
    return _keeper(study) is not None


def _keeper(study: optuna.Study) -> BaseHeartbeat | None:
    """The storage of a study, if it keeps heartbeats."""
    storage = study._storage
    if isinstance(storage, BaseHeartbeat) and storage.get_heartbeat_interval() is not None:
        return storage
    return None


def _beat(storage: BaseHeartbeat, trials: Collection[optuna.Trial], ended: Event) -> None:
    while not ended.wait(storage.get_heartbeat_interval()):
        for trial in list(trials):
            with suppress(Exception):  # the database is away: the next beat may reach it
                storage.record_heartbeat(trial._trial_id)
