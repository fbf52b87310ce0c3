"""A stage of the guide from data to tracked model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields

from abalone.data.loading import load_data
from abalone.evaluation.figures import training_curves
from abalone.evaluation.scores import predict
from abalone.settings import PREDICTION_COLUMNS, STAGES, TUNED, BadValue, StageSettings
from abalone.stages.pages import TABLE_HEADER, run_card, stage_rows
from abalone.stages.recorder import (
    Result,
    TrainedModel,
    Training,
    final_metrics,
    log_models,
    prediction_figures,
    record_training,
)
from abalone.tracking.markdown import markdown_table
from abalone.tracking.runs import RunOptions, find_stage, how_to_browse, tracked_run
from abalone.training.fit import fit


def run_stage(
    stage: str, settings: StageSettings, base: str | None = None, options: RunOptions = RunOptions()
) -> Result:
    """Train, evaluate and track one stage.

    Parameters
    ----------
    stage : str
        Name of the stage, for the lesson and the tags.
    settings : StageSettings
        What is trained.
    base : str, optional
        Of the winner of a study, which is no stage of the guide: the stage that it was tuned from.
    options : RunOptions
        Where the run is filed.
    """
    began = time.perf_counter()
    name = f"{stage} {base}" if base else stage
    tags = {"stage": stage, "task": settings.task, "guide_section": STAGES.get(stage, TUNED).guide}
    with tracked_run(name, tags, options) as run_id:
        data = load_data(settings.data, settings.seed)
        split = data.split
        model, history = fit(settings, data.x, data.rings, split)
        predicted = {part: predict(model, data.x[rows]) for part, rows in split.scored().items()}

        final = {}
        for part, rows in split.scored().items():
            final |= final_metrics(settings.task, part, data.rings[rows], predicted[part], data.rings[split.train])
        trained = TrainedModel(model, settings.model_config(), "model", settings.as_text(), final)
        training = Training(
            stage=base or stage,
            settings=settings,
            data=data,
            curves=history.metrics,
            predicted={part: {PREDICTION_COLUMNS[settings.task]: values} for part, values in predicted.items()},
            epochs={"best_epoch": history.best_epoch, "reported_epoch": history.reported_epoch},
            models={settings.task: trained},
        )
        figures = {"curves.png": training_curves(history.metrics, history.best_epoch, stage)}
        figures |= prediction_figures(settings.task, data.rings[split.test], predicted["test"], stage)

        model_ids = log_models(training)
        previous = _find_previous(run_id, stage, base, settings, split.fingerprint)
        page = run_card(stage, settings, training.metrics, f"models:/{model_ids[settings.task]}", previous)
        record_training(run_id, training, model_ids, figures, page)
    return Result(name, settings.task, time.perf_counter() - began, training.metrics, run_id)


def show_result(result: Result, say: Callable[[str], None]) -> None:
    """Say what came out of a run, and where to look."""
    table = markdown_table(TABLE_HEADER, stage_rows([result]))
    say(f"{table}\n\n{how_to_browse(result.run_id)}")


def _find_previous(
    run_id: str, stage: str, base: str | None, settings: StageSettings, fingerprint: str
) -> tuple[str, Mapping[str, float]] | None:
    """Run id and metrics of the stage before, on the same rows and alike but for what is taught here."""
    before = base or _stage_before(stage)
    if before is None:
        return None
    free = {"data", "device"}
    if base:
        free |= {spec.name for spec in fields(StageSettings)}
    else:
        free |= set(STAGES[stage].taught)
    for run in find_stage(run_id, before, fingerprint):
        with suppress(BadValue):  # a run of another version of this program
            theirs = StageSettings.from_mapping(run.data.params)
            if theirs.task == settings.task and _are_alike(theirs, settings, free):
                return run.info.run_id, run.data.metrics
    return None


def _stage_before(stage: str) -> str | None:
    names = list(STAGES)
    place = names.index(stage)
    if place == 0:
        return None
    return names[place - 1]


def _are_alike(a: StageSettings, b: StageSettings, free: set[str]) -> bool:
    """Whether two settings agree in every key but those in ``free``."""
    for spec in fields(StageSettings):
        if spec.name not in free and getattr(a, spec.name) != getattr(b, spec.name):
            return False
    return True
