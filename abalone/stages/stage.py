"""A stage of the guide as a tracked run: from the data file to a logged model and a page that describes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields

from abalone.data.loading import load_data
from abalone.evaluation.figures import training_curves
from abalone.evaluation.scores import predict
from abalone.settings import PREDICTION_COLUMNS, STAGES, TUNED, BadValue, StageSettings
from abalone.stages.pages import RESULTS_HEADER, result_rows, stage_page
from abalone.stages.recorder import (
    Result,
    TrainedModel,
    Training,
    final_metrics,
    log_models,
    prediction_figures,
    record_training,
    training_run,
)
from abalone.tracking.markdown import markdown_table
from abalone.tracking.runs import RunOptions, find_stage, how_to_browse
from abalone.training.fit import fit
from abalone.training.progress import training_progress


def run_stage(
    stage: str,
    settings: StageSettings,
    base: str | None = None,
    options: RunOptions = RunOptions(),
    say: Callable[[str], None] | None = None,
) -> Result:
    """Train, evaluate and track one stage.

    Parameters
    ----------
    stage : str
        Name of the stage, or ``tuned`` for the winner of a study.
    settings : StageSettings
        What is trained.
    base : str, optional
        For the winner of a study: the stage that the study started from.
    options : RunOptions
        Where the run is filed.
    say : callable, optional
        Takes a line before the training, where there is no terminal for a bar.
    """
    began = time.perf_counter()
    name = f"{stage} {base}" if base else stage
    task = settings.task
    with training_run(name, stage, task, STAGES.get(stage, TUNED), options) as run_id:
        data = load_data(settings.data, settings.seed)
        with training_progress(name, settings.epochs, len(data.split.train), say) as after_epoch:
            model, history = fit(settings, data.x, data.rings, data.split, after_epoch)

        column = PREDICTION_COLUMNS[task]
        predicted = {}
        scores = {}
        for part, rows in data.split.scored().items():
            predicted[part] = {column: predict(model, data.x[rows])}
            scores |= final_metrics(task, part, data, predicted[part][column], data.split.train)

        trained = TrainedModel(
            module=model,
            config=settings.model_config(),
            name=name.replace(" ", "-"),
            params=settings.as_text(),
            scores=scores,
        )
        training = Training(
            stage=base or stage,
            settings=settings,
            data=data,
            curves=history.metrics,
            predicted=predicted,
            epochs={"best_epoch": history.best_epoch, "reported_epoch": history.reported_epoch},
            models={task: trained},
        )
        figures = {"curves.png": training_curves(history.metrics, history.best_epoch, stage)}
        figures |= prediction_figures(task, data.rings[data.split.test], predicted["test"][column], stage)

        model_ids = log_models(training)
        previous = _find_previous(run_id, stage, base, settings, data.split.fingerprint)
        page = stage_page(stage, settings, training.metrics, f"models:/{model_ids[task]}", previous)
        record_training(run_id, training, model_ids, figures, page)
    return Result(stage=name, task=task, seconds=time.perf_counter() - began, metrics=training.metrics, run_id=run_id)


def show_result(result: Result, say: Callable[[str], None]) -> None:
    """Report the scores of a run, and the command and address that show it in MLflow's UI."""
    table = markdown_table(RESULTS_HEADER, result_rows([result]))
    say(f"{table}\n\n{how_to_browse(result.run_id)}")


def _find_previous(
    run_id: str, stage: str, base: str | None, settings: StageSettings, fingerprint: str
) -> tuple[str, Mapping[str, float]] | None:
    """Run id and metrics of the stage before, if there is a run of it that can be compared with this one.

    It must be of the same task and split, and differ only in the keys that this stage teaches. The winner of a study
    is compared with the study's base stage, whatever the settings.
    """
    before = base or _stage_before(stage)
    if before is None:
        return None
    may_differ = {"data", "device"}
    if base:
        may_differ |= {spec.name for spec in fields(StageSettings)}
    else:
        may_differ |= set(STAGES[stage].taught)
    for run in find_stage(run_id, before, fingerprint):
        with suppress(BadValue):  # a run of another version, whose settings had other keys
            theirs = StageSettings.from_mapping(run.data.params)
            if theirs.task == settings.task and _are_alike(theirs, settings, may_differ):
                return run.info.run_id, run.data.metrics
    return None


def _stage_before(stage: str) -> str | None:
    names = list(STAGES)
    place = names.index(stage)
    if place == 0:
        return None
    return names[place - 1]


def _are_alike(a: StageSettings, b: StageSettings, may_differ: set[str]) -> bool:
    """Whether two settings are equal in every key outside ``may_differ``."""
    for spec in fields(StageSettings):
        if spec.name not in may_differ and getattr(a, spec.name) != getattr(b, spec.name):
            return False
    return True
