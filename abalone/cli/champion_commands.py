"""Commands around the champions and the store: ``promote``, ``rollback``, ``predict``, ``evaluate`` and ``status``."""

from __future__ import annotations

import click

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
@json_option
@run_options
def promote(
    task: str,
    experiment: str,
    min_improvement: float,
    dry_run: bool,
    force: bool,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Make the best classifier and the best regressor champions, and say why."""
    from abalone.registry import promotion
    from abalone.tracking.runs import RunOptions

    with reporting(json):
        decisions = promotion.promote(
            tasks_of(task),
            say,
            experiment=experiment or None,
            min_improvement=min_improvement,
            dry_run=dry_run,
            force=force,
            options=RunOptions(experiment_name, run_name),
        )
    if json:
        print_object(decisions_object(decisions, dry_run))


@command("rollback", "--task classification")
@task_option(None)
@run_options
def rollback(task: str, experiment_name: str | None, run_name: str | None, debug: bool) -> None:
    """Restore the previous champion."""
    from abalone.registry import rollback as registry_rollback
    from abalone.tracking.runs import RunOptions

    registry_rollback.rollback(tasks_of(task), say, RunOptions(experiment_name, run_name))


@command("predict", "--input rows.csv --output scored.csv")
@click.option(
    "--input", required=True, metavar="CSV", help="Rows to score, in units of 200 mm and 200 g, as in the data file."
)
@click.option("--output", required=True, metavar="CSV", help="File to write: the same rows with their scores.")
@json_option
@debug_option
def predict(input: str, output: str, json: bool, debug: bool) -> None:
    """Score a CSV file of raw rows with both champions."""
    from abalone.registry.scoring import score_csv

    with reporting(json):
        count = score_csv(input, output)
    if json:
        print_object({"rows": count, "input": input, "output": output})
    else:
        say(f"{count} rows scored: {output}")


@command("evaluate", "--data aged.csv --fail-if-worse")
@click.option("--data", required=True, metavar="FILE", help="Animals with counted rings, in the form of the data file.")
@boolean_option("--fail-if-worse", f"Exit with status {STATUS_IF_WORSE} if a champion is worse than promised.")
@json_option
@run_options
def evaluate(
    data: str, fail_if_worse: bool, json: bool, experiment_name: str | None, run_name: str | None, debug: bool
) -> None:
    """Score both champions on a labelled file, and say whether they are still as good as promised."""
    from abalone.registry import evaluation_run
    from abalone.tracking.runs import RunOptions

    options = RunOptions(experiment_name, run_name)
    with reporting(json):
        evaluations = evaluation_run.evaluate(data, say, fail_if_worse=fail_if_worse, options=options)
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
    from abalone.status import read_status, status_text

    with reporting(json):
        found = read_status(experiment_name)
    if json:
        print_object(found)
    else:
        say(status_text(found))
