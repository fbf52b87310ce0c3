"""Commands around the champions and the store: ``promote``, ``predict``, ``evaluate``, ``status`` and others."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from abalone import api
from abalone.cli.group import command
from abalone.cli.options import (
    boolean_option,
    debug_option,
    experiment_option,
    json_option,
    run_options,
    task_option,
    tasks_of,
)
from abalone.cli.output import decisions_object, print_object, reporting, say
from abalone.model.columns import PARAMS
from abalone.settings import TARGETS, UNITS
from abalone.tracking.reachable import KEPT_RESULTS

units_option = click.option(
    "--units",
    type=click.Choice(UNITS),
    default="file",
    show_default=True,
    help="Units of the measurements: mm/200 and g/200 as in the data file, or millimetres and grams.",
)
STATUS_IF_WORSE = 3  # of ``evaluate``, for a schedule that is to act on it


@command("promote", "--min-improvement 0.002 --dry-run")
@task_option("both")
@click.option("--experiment", default="", help="Experiment whose runs are candidates  [default: that of this run]")
@click.option(
    "--min-improvement",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Smallest improvement over the champion to promote, in nats (log_loss) or rings (rmse).",
)
@boolean_option("--dry-run", "Decide and report, but leave the registry unchanged.")
@boolean_option("--force", "Promote even if the champion cannot be compared on the same rows.")
@click.option(
    "--split",
    default="",
    help="Fingerprint of the split whose runs are candidates  [default: the champion's, or that of most candidates]",
)
@json_option
@run_options
def promote(
    task: str,
    experiment: str,
    min_improvement: float,
    dry_run: bool,
    force: bool,
    split: str,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Make the best classifier and the best regressor champions, and say why."""
    with reporting(json):
        decisions = api.promote(
            tasks_of(task),
            experiment=experiment or None,
            min_improvement=min_improvement,
            dry_run=dry_run,
            force=force,
            split=split,
            say=say,
            experiment_name=experiment_name,
            run_name=run_name,
        )
    if json:
        print_object(decisions_object(decisions, dry_run))


@command("rollback", "--task classification")
@task_option(None)
@run_options
def rollback(task: str, experiment_name: str | None, run_name: str | None, debug: bool) -> None:
    """Restore the previous champion."""
    api.rollback(tasks_of(task), say=say, experiment_name=experiment_name, run_name=run_name)


@command("predict", "--input rows.csv --output scored.csv")
@click.option("--input", required=True, metavar="FILE", help="Table of the rows to score; - for stdin.")
@click.option("--output", required=True, metavar="CSV", help="File to write: the rows with their scores; - for stdout.")
@units_option
@click.option(
    "--interval",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=PARAMS["interval"],
    show_default=True,
    help="Share of the animals that the interval is to hold, if the champion is of rings.",
)
@boolean_option("--distribution", "Add the probability of each number of rings, if the champion is of rings.")
@boolean_option("--skip-bad", "Leave bad rows out and list them in a second file, instead of refusing the table.")
@json_option
@run_options
def predict(
    input: str,
    output: str,
    units: str,
    interval: float,
    distribution: bool,
    skip_bad: bool,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Score a table of raw rows with both champions, as a tracked run."""
    from abalone.registry.table_files import STDOUT

    to_stdout = output in STDOUT
    if to_stdout and json:
        raise click.UsageError("--json and --output - both need stdout; give a file as output")
    stdout = sys.stdout  # before ``reporting`` takes its place
    with reporting(json or to_stdout):
        summary = api.predict(
            input,
            output,
            units=units,
            interval=interval,
            distribution=distribution,
            skip_bad=skip_bad,
            say=say,
            experiment_name=experiment_name,
            run_name=run_name,
            stdout=stdout,
        )
    if json:
        print_object(summary)


@command("evaluate", "--data aged.csv --fail-if-worse")
@click.option("--data", required=True, metavar="FILE", help="Table of animals whose rings were counted.")
@units_option
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="auto",
    show_default=True,
    help="What the target column holds: rings, age in years, or what its name says.",
)
@boolean_option("--fail-if-worse", f"Exit with status {STATUS_IF_WORSE} if a champion is worse than promised.")
@json_option
@run_options
def evaluate(
    data: str,
    units: str,
    target: str,
    fail_if_worse: bool,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Score both champions on a labelled file, and say whether they are still as good as promised."""
    with reporting(json):
        evaluations = api.evaluate(
            data,
            units=units,
            target=target,
            fail_if_worse=fail_if_worse,
            say=say,
            experiment_name=experiment_name,
            run_name=run_name,
        )
    from abalone.registry import evaluation_run

    if json:
        print_object({found.task: evaluation_run.evaluation_object(found) for found in evaluations})
    if fail_if_worse and evaluation_run.is_any_worse(evaluations):
        raise SystemExit(STATUS_IF_WORSE)


@command("status", "--json")
@json_option
@experiment_option
@debug_option
def status(json: bool, experiment_name: str | None, debug: bool) -> None:
    """Show what has been run, what is best, the champions, the studies, and what to do next."""
    with reporting(json):
        found = api.read_status(experiment_name)
    if json:
        print_object(found)
    else:
        from abalone.status import status_text

        say(status_text(found))


@command("relocate", "--debug")
@debug_option
def relocate(debug: bool) -> None:
    """Mend a tracking database that was moved or copied together with its folder mlruns.

    MLflow records absolute paths. This makes the mlruns beside the SQLite database the place of every file that is
    there: of experiments, runs, logged models and champions. It moves no file.
    """
    from abalone.tracking import relocation

    say(relocation.relocate())


@command("file", "--folder kept-results")
@click.option(
    "--folder",
    default=KEPT_RESULTS,
    show_default=True,
    metavar="FOLDER",
    help="Folder that a stage has named, or the folder of all of them.",
)
@debug_option
def file_results(folder: str, debug: bool) -> None:
    """File the results that stages have kept in a folder because the tracking server was away.

    Nothing is trained again, and nothing is filed twice: what was filed already is left alone, and what was filed in
    part is completed.
    """
    from abalone.tracking import filing

    filing.file_results(Path(folder), say)
