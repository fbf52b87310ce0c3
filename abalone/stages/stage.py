"""A stage of the guide as a tracked run: from the data file to a logged model and a page that describes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from abalone.data.loading import LoadedData, load_data
from abalone.evaluation.figures import training_curves
from abalone.evaluation.scores import predict
from abalone.settings import PREDICTION_COLUMNS, STAGES, TUNED, StageSettings, load_settings
from abalone.stages.earlier_runs import find_compared
from abalone.stages.page_parts import say_how_to_promote
from abalone.stages.recorder import (
    Result,
    TrainedModel,
    Training,
    final_metrics,
    prediction_figures,
    record_training,
    training_run,
)
from abalone.stages.results_table import RESULTS_HEADER, result_rows
from abalone.stages.stage_page import StageFacts, stage_page
from abalone.tracking.markdown import markdown_table
from abalone.tracking.runs import RunOptions, experiment_id_of, how_to_browse
from abalone.tracking.seed_findings import find_seed_findings
from abalone.training.ahead import Wait
from abalone.training.fit import fit
from abalone.training.progress import training_progress


def run_stage(
    stage: str,
    settings: StageSettings,
    base: str | None = None,
    options: RunOptions = RunOptions(),
    say: Callable[[str], None] | None = None,
    begun: Wait | None = None,
    remark: Callable[[Training], tuple[str, Mapping[str, str]]] | None = None,
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
    begun : callable, optional
        Waits for the training, if a worker has begun it; see ``begin_stage``.
    remark : callable, optional
        Takes the finished training; returns a paragraph that the page ends with, and more tags.
    """
    began = time.perf_counter()
    name = f"{stage} {base}" if base else stage
    task = settings.task
    with training_run(name, stage, task, STAGES.get(stage, TUNED), options) as run_id:
        data = load_data(settings.data, settings.seed, settings.units, settings.target)
        if say and data.dataset.understood:
            say(data.dataset.understood)
        facts = _facts_before(run_id, stage, base, settings, data)
        with training_progress(name, settings.epochs, len(data.split.train), say) as after_epoch:
            if begun:
                model, history = begun()
            else:
                model, history = fit(settings, data.x, data.rings, data.split, after_epoch)

        column = PREDICTION_COLUMNS[task]
        predicted = {}
        scores: dict[str, float] = {}
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
            fitted=data.split.train,
            epochs={"best_epoch": history.best_epoch, "reported_epoch": history.reported_epoch},
            models={task: trained},
        )
        figures = {"curves.png": training_curves(history.metrics, history.best_epoch, scores, stage)}
        figures |= prediction_figures(task, data.rings[data.split.test], predicted["test"][column], stage)

        note, tags = remark(training) if remark else ("", {})

        def page(model_ids: Mapping[str, str]) -> str:
            known = replace(facts, metrics=training.metrics, model_id=model_ids[task])
            return f"{stage_page(known)}\n\n{note}".strip()

        record_training(training, figures, page, tags)
    say_how_to_promote(settings, say)
    return Result(
        stage=name,
        task=task,
        seconds=time.perf_counter() - began,
        metrics=training.metrics,
        run_id=run_id,
        curves=history.metrics,
        test_rows=len(data.split.test),
    )


def _facts_before(run_id: str, stage: str, base: str | None, settings: StageSettings, data: LoadedData) -> StageFacts:
    """What the page says that does not depend on the training; read before it, while the tracking server answers."""
    return StageFacts(
        stage=stage,
        settings=settings,
        metrics={},
        test_rows=len(data.split.test),
        experiment_id=experiment_id_of(run_id),
        run_id=run_id,
        model_id="",
        understood=data.dataset.understood,
        compared=find_compared(run_id, stage, base, settings, data.split.fingerprint),
        seeds=_seeds_sentence(run_id, stage, settings, data),
    )


def show_result(result: Result, say: Callable[[str], None]) -> None:
    """Report the scores of a run, and the command and address that show it in MLflow's UI."""
    table = markdown_table(RESULTS_HEADER, result_rows([result]))
    say(f"{table}\n\n{how_to_browse(result.run_id)}")


def _seeds_sentence(run_id: str, stage: str, settings: StageSettings, data: LoadedData) -> str:
    """What the newest report says about a stage; "" for settings that are not those of the report."""
    if stage not in STAGES:
        return ""
    shared = {key: getattr(settings, key) for key in ("epochs", "data", "units", "target", "device")}
    reported = load_settings(stage, shared)
    if replace(settings, seed=reported.seed) != reported:
        return ""
    found = find_seed_findings(run_id, data.dataset.sha256[:12], settings.epochs)
    return found.about(stage) if found else ""
