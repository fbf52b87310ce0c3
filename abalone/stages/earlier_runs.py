"""Earlier runs that a page compares its own run with: the same rows and settings, apart from what a stage teaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields

from abalone.settings import STAGES, BadValue, StageSettings, stages_before
from abalone.tracking.addresses import run_path
from abalone.tracking.runs import find_stage

# Stages that a stage is compared with, where it is not the one before: `dropout` also with no remedy at all.
COMPARED = {"classify": (), "dropout": ("regularize", "encode"), "regress": ()}
NEVER_COMPARED = {"data", "units", "target", "device"}  # the fingerprint of the split stands for the data


@dataclass(frozen=True)
class EarlierRun:
    """An earlier run, as a page shows it.

    Parameters
    ----------
    stage : str
    path : str
        Path of its page in the UI.
    metrics : mapping
        Its final metrics.
    """

    stage: str
    path: str
    metrics: Mapping[str, float]


def find_compared(
    run_id: str, stage: str, base: str | None, settings: StageSettings, fingerprint: str
) -> list[EarlierRun]:
    """The newest runs of the stages that a stage is compared with, the most important first.

    Parameters
    ----------
    run_id : str
        Run in whose experiment to search.
    stage : str
        Name of the stage, or ``tuned``.
    base : str, optional
        Stage that a study started from; its winner is compared with that stage, whatever the settings.
    settings : StageSettings
        Those of the run.
    fingerprint : str
        That of the run's split.
    """
    if base:
        names: Sequence[str] = [base]
        may_differ = {spec.name for spec in fields(StageSettings)}
    else:
        names = COMPARED.get(stage, stages_before(stage)[-1:])
        may_differ = set(STAGES[stage].taught)
    found = []
    for name in names:
        earlier = find_earlier(run_id, name, settings, fingerprint, may_differ)
        if earlier:
            found.append(earlier)
    return found


def find_earlier(
    run_id: str, stage: str, settings: StageSettings, fingerprint: str, may_differ: Iterable[str] = ()
) -> EarlierRun | None:
    """The newest run of a stage on the same split whose settings differ in nothing but ``may_differ``."""
    ignored = NEVER_COMPARED | set(may_differ)
    for run in find_stage(run_id, stage, fingerprint):
        with suppress(BadValue):  # a run of another version, whose settings had other keys
            theirs = StageSettings.from_mapping(run.data.params)
            if theirs.task == settings.task and are_alike(theirs, settings, ignored):
                return EarlierRun(stage, run_path(run.info.experiment_id, run.info.run_id), run.data.metrics)
    return None


def are_alike(a: StageSettings, b: StageSettings, may_differ: set[str]) -> bool:
    """Whether two settings are equal in every key outside ``may_differ``."""
    for spec in fields(StageSettings):
        if spec.name not in may_differ and getattr(a, spec.name) != getattr(b, spec.name):
            return False
    return True
