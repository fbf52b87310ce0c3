"""The whole guide in one go: every stage, what goes beyond it, the champions, the claims, one closing table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import pandas as pd

from abalone.claims.report import run_report
from abalone.data.reading import read
from abalone.evaluation.figures import comparison
from abalone.registry.pages import champion_line
from abalone.registry.promotion import NoCandidate, promote
from abalone.settings import (
    REGISTERED_MODELS,
    SEARCHED_BY_DEFAULT,
    SELECTION,
    TASKS,
    RingsSettings,
    StageSettings,
    UserError,
)
from abalone.stages.pages import CLOSING_NOTE, TABLE_HEADER, closing_rows
from abalone.stages.recorder import Result
from abalone.stages.rings import run_rings
from abalone.stages.stage import run_stage
from abalone.tracking.markdown import markdown_table
from abalone.tracking.run_logging import describe_experiment, log_files, log_tags
from abalone.tracking.runs import RunOptions, how_to_browse, tracked_run
from abalone.tuning.plan import Plan, read_space
from abalone.tuning.search import Limits
from abalone.tuning.tune import BASES, Where, run_tune

Say = Callable[[str], None]


def run_main(
    stages: Mapping[str, StageSettings],
    say: Say,
    *,
    rings: RingsSettings | None = None,
    trials: int = 0,
    seeds: int = 0,
    options: RunOptions = RunOptions(),
) -> list[Result]:
    """Run every stage as a nested run of one parent, tune, promote the best, and compare everything.

    What fails is reported and the others go on; the parent then fails too.

    Parameters
    ----------
    stages : mapping of stage to Experiment
        In the order of the guide.
    say : callable
        Takes a line of progress.
    rings : RingsExperiment, optional
        Settings of the stage beyond the guide, after its stages.
    trials : int
        Of each task's study; 0 for none.
    seeds : int
        Of the report on the guide's claims; 0 for none.
    options : RunOptions
        Where the parent is filed.

    Raises
    ------
    UserError
        At the end, naming what failed.
    """
    jobs = {stage: partial(run_stage, stage, settings) for stage, settings in stages.items()}
    if rings:
        jobs["rings"] = partial(run_rings, rings)
    if trials:
        jobs |= {f"tuned {BASES[task]}": partial(_tune, stages[BASES[task]], trials, say) for task in TASKS}
    with tracked_run("main", {"stage": "main"}, options) as run_id:
        read(next(iter(stages.values())).data)  # bad data is told once, not by every stage
        results = [_attempt(name, job, say) for name, job in jobs.items()]
        found = [task for task in TASKS if any(not result.error and task in result.task for result in results)]
        champions = [_promote(task, say) for task in found]
        complaint = _judge_claims(stages, seeds, say) if seeds else ""
        say(f"\n{_close(run_id, results, champions)}\n\n{how_to_browse(run_id)}")
        if failed := [f"{result.stage} ({result.error})" for result in results if result.error]:
            raise UserError(f"{len(failed)} of {len(results)} stages failed: {'; '.join(failed)}")
        if complaint:
            raise UserError(f"the report failed: {complaint}")
    return results


def _attempt(name: str, job: Callable[..., Result], say: Say) -> Result:
    began = time.perf_counter()
    try:
        result = job(options=RunOptions(nested=True))
        shown = {score: result.metrics.get(f"{score}/test") for score in ("accuracy", "rmse")}
        outcome = ", ".join(f"{score}/test {value:.4f}" for score, value in shown.items() if value is not None)
    except Exception as error:
        result, outcome = Result(name, "", 0.0, error=str(error)), f"FAILED: {error}"
    seconds = time.perf_counter() - began
    say(f"{name:<16} {outcome.splitlines()[0]}  ({seconds:.1f} s)")
    return replace(result, seconds=seconds)


def _tune(settings: StageSettings, trials: int, say: Say, options: RunOptions) -> Result:
    plan = Plan(BASES[settings.task], settings, read_space(SEARCHED_BY_DEFAULT))
    return run_tune(plan, Where(), Limits(trials), say, options)


def _promote(task: str, say: Say) -> str:
    """Let the best run of the experiment become champion; too weak a one is no failure of the stages."""
    try:
        [decision] = promote((task,), say, options=RunOptions(run_name=f"promote {task}", nested=True))
    except NoCandidate as error:
        say(f"No promotion: {error}")
        return f"No champion of {task}: {error}"
    return champion_line(decision, SELECTION[task], f"models:/{REGISTERED_MODELS[task]}@champion")


def _judge_claims(stages: Mapping[str, StageSettings], seeds: int, say: Say) -> str:
    """Judge the guide's claims; what went wrong, if anything."""
    try:
        run_report(stages, seeds, say, RunOptions(nested=True))
    except Exception as error:
        say(f"report FAILED: {error}")
        return str(error)
    return ""


def _close(run_id: str, results: list[Result], champions: list[str]) -> str:
    """Write the closing table, and a figure of it, to the run of all and to the experiment; return the table."""
    rows = closing_rows(results)
    table = f"{markdown_table(TABLE_HEADER, rows)}\n\n{CLOSING_NOTE}"
    done = [{"stage": r.stage, "task": task, **r.metrics} for r in results for task in TASKS if task in r.task]
    figures = {"comparison.png": comparison(done)} if done else {}
    frame = pd.DataFrame(rows, columns=TABLE_HEADER)
    won, tried = "\n\n".join(champions), "Every stage of the guide, and what goes beyond it, on the test half."
    text = f"{table}\n\n{won}".strip()
    tags = log_files(run_id, texts={"stages.md": text}, figures=figures, tables={"stages.json": frame})
    # A page shows the first lines, and the rest when it is asked for.
    tags["mlflow.note.content"] = f"{won}\n\n{tried}\n\n{table}".strip()
    log_tags(run_id, tags)
    where = f"Latest run of everything: `{run_id}`. *Views* (at the top) has all runs, the best first."
    describe_experiment(run_id, f"{won}\n\n{where}\n\n{table}".strip())
    return text
