"""Commands that train many networks: ``tune`` and ``report``."""

from __future__ import annotations

from typing import Any

import click

from abalone import api, settings
from abalone.cli.group import command
from abalone.cli.options import (
    SHARED_BY_MAIN,
    debug_option,
    json_option,
    parse_settings,
    run_options,
    settings_options,
    workers_option,
)
from abalone.cli.output import findings_object, print_object, reporting, say, show, tuning_object
from abalone.settings import STAGES, TASKS

STORAGE_HELP = "Of Optuna: database URL or journal file  [default: $ABALONE_STORAGE, or studies.journal]"


@command("tune", "--base regress --search depth,width")
@click.option(
    "--task",
    type=click.Choice(["auto", *TASKS]),
    default="auto",
    show_default=True,
    help="What to predict; auto is the task of the base stage.",
)
@click.option(
    "--base",
    type=click.Choice(["auto", *STAGES]),
    default="auto",
    show_default=True,
    help="Stage to start from; auto is encode, or regress for --task regression.",
)
@click.option(
    "--trials", type=click.IntRange(1, 100_000), default=64, show_default=True, help="Trials of the study in all."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Seconds after which no trial begins; 0 for no limit.",
)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of processes.")
@click.option(
    "--search",
    default=",".join(settings.SEARCHED_BY_DEFAULT),
    show_default=True,
    help="Settings to search, out of experiments/tune.toml.",
)
@click.option("--study", default="", help="Name; an existing study is continued  [default: a new name]")
@click.option("--storage", default="", help=STORAGE_HELP)
@settings_options(SHARED_BY_MAIN)
@json_option
@run_options
def tune(
    task: str,
    base: str,
    trials: int,
    timeout: float,
    workers: int,
    search: str,
    study: str,
    storage: str,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Search for better settings in an Optuna study, and train the winner.

    Any number of processes and machines can work on one study: give each the same --study and --storage.
    """
    base = base_of(task, base)
    base_settings = parse_settings(base, given)
    check_task(task, base, base_settings.task)
    names = [name.strip() for name in search.replace("-", "_").split(",") if name.strip()]
    with reporting(json):
        try:
            result = api.tune(
                base,
                base_settings,
                trials=trials,
                timeout=timeout,
                workers=workers,
                search=names,
                study=study,
                storage=storage,
                say=say,
                experiment_name=experiment_name,
                run_name=run_name,
            )
        except settings.BadValue as error:
            raise click.BadParameter(error.message, param_hint=f"'--{error.key}'") from None
    if json:
        print_object(tuning_object(result))
    elif result is not None:
        show(result)


def base_of(task: str, base: str) -> str:
    """The stage that a study starts from."""
    if base != "auto":
        return base
    if task == "regression":
        return "regress"
    return "encode"


def check_task(task: str, base: str, task_of_base: str) -> None:
    """Raise a usage error if the base stage is of another task than the one that was asked for."""
    if task in ("auto", task_of_base):
        return
    expected = [stage for stage in STAGES if settings.read_toml(stage)["task"] == task]
    raise click.BadParameter(f"{base} is no {task}; expected one of {', '.join(expected)}", param_hint="'--base'")


@command("release", "--study ours --host pod-1")
@click.option("--study", required=True, help="Name of the study.")
@click.option("--host", required=True, help="Machine that holds the trials, as tune prints it.")
@click.option("--storage", default="", help=STORAGE_HELP)
@debug_option
def release(study: str, host: str, storage: str, debug: bool) -> None:
    """Give up the trials of a study that a lost machine holds, so that others try them again."""
    from abalone.tuning.release import release_trials
    from abalone.tuning.storage import storage_of

    release_trials(study, storage_of(storage), host, say)


@command("report", "--seeds 40")
@click.option(
    "--seeds",
    type=click.IntRange(3, 1000),
    default=20,
    show_default=True,
    help="Seeds per stage, counted from 0; each has its own split.",
)
@workers_option
@settings_options(("device", "data", "units", "target", "epochs"))
@json_option
@run_options
def report(
    seeds: int,
    workers: int | str,
    json: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Judge the guide's claims over many seeds, each with its own split."""
    stages = {stage: parse_settings(stage, given) for stage in STAGES}
    with reporting(json):
        found = api.report(seeds, stages, workers=workers, say=say, experiment_name=experiment_name, run_name=run_name)
    if json:
        print_object(findings_object(found, seeds))
