"""``main``: the guide's claims, every stage, a study of each task and the champions, under one parent run.

The claims come first, so that the pages of the stages can cite what many seeds say. The parent has the table that
compares all results, and no metrics of its own: the best of many test scores would not be an honest score.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pandas as pd

from abalone.claims.report import run_report
from abalone.data.reading import read
from abalone.evaluation.lesson_figure import LossCurves, lesson_figure
from abalone.evaluation.overfitting import OVERFITTING_STAGES
from abalone.registry.pages import champion_line
from abalone.registry.promotion import NoCandidate, promote
from abalone.settings import (
    REGISTERED_MODELS,
    SEARCHED_BY_DEFAULT,
    SELECTION,
    STAGES,
    TASKS,
    RingsSettings,
    StageSettings,
    UserError,
)
from abalone.stages.experiment_map import lesson_line, stage_map, start_line
from abalone.stages.recorder import Result
from abalone.stages.results_table import CLOSING_NOTE, RESULTS_HEADER, closing_rows
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage
from abalone.tracking.addresses import artifact_picture, link, run_path
from abalone.tracking.markdown import markdown_table
from abalone.tracking.plain_errors import explain
from abalone.tracking.reachable import check_store
from abalone.tracking.run_logging import DESCRIPTION_TAG, describe_experiment, log_files, log_tags
from abalone.tracking.runs import RunOptions, experiment_id_of, how_to_browse, tracked_run
from abalone.training.ahead import begin_rings, begin_stage
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.tune import BASES, Where, run_tune

Say = Callable[[str], None]
Job = Callable[..., Result]  # called with ``options``
LESSON_FILE = "lesson.png"  # comes first in the list of artifacts
LESSON_TITLES = {
    "encode": "encode: no remedy",
    "regularize": "regularize: weight decay",
    "dropout": "dropout",
}


@dataclass(frozen=True)
class Promotion:
    """Outcome of a promotion, for the terminal and with links for pages, and the version of the champion, if any."""

    task: str
    outcome: str
    on_page: str
    version: int | None = None


def run_main(
    stages: Mapping[str, StageSettings],
    say: Say,
    *,
    rings: RingsSettings | None = None,
    trials: int = 0,
    seeds: int = 0,
    options: RunOptions = RunOptions(),
) -> list[Result]:
    """Run everything as nested runs of one parent: report, stages, studies, promotions.

    A failure is reported and the other jobs still run; the parent fails at the end.

    Parameters
    ----------
    stages : mapping of stage to StageSettings
        Stages of the guide, in its order.
    say : callable
        Takes a line of progress.
    rings : RingsSettings, optional
        Settings of the stage ``rings``, which runs after the others; without them it is left out.
    trials : int
        Trials of each task's study; 0 for no study.
    seeds : int
        Seeds of the report on the guide's claims; 0 for no report.
    options : RunOptions
        Where the parent run is filed.

    Raises
    ------
    UserError
        At the end, with the names of the stages that failed.
    """
    jobs = _jobs(stages, say, rings, trials)
    with tracked_run("main", {"stage": "main"}, options) as run_id:
        first = next(iter(stages.values()))
        # Here, so that a bad file is reported once and not by every stage.
        dataset = read(first.data, first.units, first.target)
        if dataset.understood:
            say(dataset.understood)
        report_error = _judge_claims(stages, seeds, say)
        results = [_attempt(name, job, say) for name, job in jobs.items()]
        promotions = [_promote(task, say) for task in _trained_tasks(results)]
        closing = _log_results(run_id, results, promotions)
        say(f"\n{closing}\n\n{how_to_browse(run_id)}")
        _raise_failures(results, report_error)
    return results


def _jobs(stages: Mapping[str, StageSettings], say: Say, rings: RingsSettings | None, trials: int) -> dict[str, Job]:
    """Everything that trains, by the name under which it is reported; workers begin what they can now."""
    jobs: dict[str, Job] = {}
    for stage, settings in stages.items():
        jobs[stage] = partial(run_stage, stage, settings, begun=begin_stage(settings))
    if rings:
        jobs["rings"] = partial(run_rings, rings, begun=begin_rings(rings))
    if trials:
        for task in TASKS:
            base = BASES[task]
            jobs[f"tuned {base}"] = partial(_tune, stages[base], trials, say)
    return jobs


def _tune(settings: StageSettings, trials: int, say: Say, options: RunOptions) -> Result:
    plan = Plan(BASES[settings.task], settings, read_space(SEARCHED_BY_DEFAULT))
    winner = run_tune(plan, Where(), Limits(trials), say, options)
    assert winner is not None  # no other process knows the new study
    return winner


def _attempt(name: str, job: Job, say: Say) -> Result:
    """Run one job; a failure becomes part of the result, unless the tracking store is away, for the other jobs too."""
    began = time.perf_counter()
    try:
        result = job(options=RunOptions(nested=True))
        outcome = _test_scores(result)
    except Exception as error:
        message = _message(error)
        result = Result(name, task="", seconds=0.0, error=message)
        outcome = f"FAILED: {message}".splitlines()[0]
    seconds = time.perf_counter() - began
    say(f"{name:<16} {outcome}  ({seconds:.1f} s)")
    if result.error:
        check_store()
    return replace(result, seconds=seconds)


def _test_scores(result: Result) -> str:
    shown = []
    for name in ("test/accuracy", "test/rmse"):
        if name in result.metrics:
            shown.append(f"{name} {result.metrics[name]:.4f}")
    return ", ".join(shown)


def _trained_tasks(results: Sequence[Result]) -> list[str]:
    """The tasks with at least one successful stage; a result names one task, or both."""
    done = [result for result in results if not result.error]
    return [task for task in TASKS if any(task in result.task for result in done)]


def _promote(task: str, say: Say) -> Promotion:
    """Promote the best run of a task; the lack of a good enough candidate is not a failure."""
    try:
        [decision] = promote((task,), say, options=RunOptions(run_name=f"promote {task}", nested=True))
    except NoCandidate as error:
        say(f"No promotion: {error}")
        outcome = f"No champion of {task}: {error}"
        return Promotion(task, outcome, outcome)
    uri = f"models:/{REGISTERED_MODELS[task]}@champion"
    outcome = champion_line(decision, SELECTION[task], uri)
    on_page = champion_line(decision, SELECTION[task], uri, named=link)
    return Promotion(task, outcome, on_page, decision.version)


def _judge_claims(stages: Mapping[str, StageSettings], seeds: int, say: Say) -> str:
    """Write the report on the guide's claims, if one was asked for; return the message of its error, or ""."""
    if not seeds:
        return ""
    say(f"Judging the guide's claims over {seeds} seeds first, so that the pages of the stages can cite them ...")
    try:
        run_report(stages, seeds, say, RunOptions(nested=True))
    except Exception as error:
        message = _message(error)
        say(f"report FAILED: {message}")
        return message
    return ""


def _message(error: Exception) -> str:
    """The text of an error, which is never empty, because an empty one would count as success."""
    return explain(error) or type(error).__name__


def _log_results(run_id: str, results: Sequence[Result], promotions: Sequence[Promotion]) -> str:
    """Write table, figure and page of all results into the parent run, and the page of the experiment.

    Returns
    -------
    str
        The table and the champions, in Markdown.
    """
    rows = closing_rows(results)
    table = f"{markdown_table(RESULTS_HEADER, rows)}\n\n{CLOSING_NOTE}"
    promoted = "\n\n".join(promotion.outcome for promotion in promotions)
    text = f"{table}\n\n{promoted}".strip()
    figures = _lesson(results)
    tables = {"stages.json": pd.DataFrame(rows, columns=RESULTS_HEADER)}
    tags = log_files(run_id, texts={"stages.md": text}, figures=figures, tables=tables)

    experiment_id = experiment_id_of(run_id)
    champions = {promotion.task: promotion.version for promotion in promotions if promotion.version}
    start = start_line(experiment_id, champions)
    stages = _stage_map(experiment_id, results)
    lesson = ""
    picture = ""
    if figures:
        lesson = lesson_line(experiment_id, run_id, LESSON_FILE)
        picture = artifact_picture("Overfitting and its remedies", run_id, LESSON_FILE)
    latest = f"All results: {link('the latest run of main', run_path(experiment_id, run_id))}."
    won = "\n\n".join(promotion.on_page for promotion in promotions)
    log_tags(run_id, tags | {DESCRIPTION_TAG: _page(start, won, lesson, stages, table)})
    describe_experiment(run_id, _page(start, won, stages, lesson, picture, table, latest))
    return text


def _page(*paragraphs: str) -> str:
    """Join the paragraphs that are not empty."""
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def _stage_map(experiment_id: str, results: Sequence[Result]) -> str:
    run_ids = {result.stage: result.run_id for result in results}
    metrics = {result.stage: result.metrics for result in results}
    failed = {result.stage for result in results if result.error}
    return stage_map(experiment_id, run_ids, metrics, failed)


def _lesson(results: Sequence[Result]) -> dict[str, Any]:
    """The figure of overfitting and its remedies, by file name; none if all stages that show it are missing."""
    curves = []
    accuracies = {}
    for result in results:
        if result.stage in OVERFITTING_STAGES and "loss/test" in result.curves:
            title = LESSON_TITLES[result.stage]
            reported_epoch = int(result.metrics["reported_epoch"])
            curves.append(LossCurves(title, result.curves["loss/train"], result.curves["loss/test"], reported_epoch))
        if result.stage in STAGES and "test/accuracy" in result.metrics:
            accuracies[result.stage] = (result.metrics["test/accuracy"], result.test_rows)
    return {LESSON_FILE: lesson_figure(curves, accuracies)} if curves else {}


def _raise_failures(results: Sequence[Result], report_error: str) -> None:
    failed = [f"{result.stage} ({result.error})" for result in results if result.error]
    if failed:
        raise UserError(f"{len(failed)} of {len(results)} stages failed: {'; '.join(failed)}")
    if report_error:
        raise UserError(f"the report failed: {report_error}")
