"""The command line: one command per entry point of MLproject, which parses its options, checks them and makes one call.

Torch, MLflow and pandas are imported inside the commands, so that ``--help`` and usage errors need none of them.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import click

from abalone import settings
from abalone.settings import STAGES, TASKS

SHARED_BY_MAIN = ("seed", "device", "data", "epochs")


class Interrupted(SystemExit):
    """Raised on SIGTERM and SIGHUP, so that open runs end as KILLED before the process exits."""


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    }
)
def cli() -> None:
    """The deep-learning guide on the Abalone data as tracked MLflow runs."""


def settings_options(names: Sequence[str], stage: str | None = None) -> Callable:
    """Add an option for each named setting of ``stage``, or of the guide's stages.

    The help of an option shows the default of the stage's TOML file, if a stage is given.
    """
    defaults = settings.read_toml(stage) if stage else {}
    keys = [spec for spec in fields(settings.settings_type(stage)) if spec.name in names]

    def decorate(command: Callable) -> Callable:
        for spec in reversed(keys):
            text = spec.metadata["expected"]
            if defaults:
                text += f"  [default: {settings.as_text(defaults[spec.name])}]"
            option = f"--{spec.name.replace('_', '-')}"
            command = click.option(option, spec.name, metavar="VALUE", help=text)(command)
        return command

    return decorate


def run_options(command: Callable) -> Callable:
    """Add the options of every command that makes a run: its experiment, its name, and how errors are shown."""
    command = click.option("--debug", is_flag=True, help="Show a traceback with an error.")(command)
    command = click.option("--run-name", help="Name of the run.")(command)
    return click.option("--experiment-name", help="MLflow experiment  [default: abalone]")(command)


def parse_settings(stage: str, given: Mapping[str, Any]) -> Any:
    """The settings of a stage, overridden by the options that were given; a bad value is a usage error."""
    overrides = {key: value for key, value in given.items() if value is not None}
    try:
        return settings.load_settings(stage, overrides)
    except settings.BadValue as error:
        option = f"--{error.key.replace('_', '-')}"
        raise click.BadParameter(error.message, param_hint=f"'{option}'") from None


def keys_of(stage: str) -> list[str]:
    """Names of a stage's settings."""
    return [spec.name for spec in fields(settings.settings_type(stage))]


def add_stage_command(stage: str) -> None:
    """Add the command of a stage of the guide."""

    @cli.command(stage, help=f"{STAGES[stage].teaches} (Guide section {STAGES[stage].guide}.)")
    @settings_options(keys_of(stage), stage)
    @run_options
    def command(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
        stage_settings = parse_settings(stage, given)
        from abalone.stages.stage import run_stage, show_result
        from abalone.tracking.runs import RunOptions

        result = run_stage(stage, stage_settings, options=RunOptions(experiment_name, run_name))
        show_result(result, click.echo)


for _stage in STAGES:
    add_stage_command(_stage)


@cli.command(help=f"{settings.RINGS.teaches} ({settings.RINGS.guide.capitalize()}.)")
@settings_options(keys_of("rings"), "rings")
@run_options
def rings(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Train the ensemble; the help text is that of ``settings.RINGS``."""
    rings_settings = parse_settings("rings", given)
    from abalone.stages.rings import run_rings
    from abalone.stages.stage import show_result
    from abalone.tracking.runs import RunOptions

    result = run_rings(rings_settings, RunOptions(experiment_name, run_name))
    show_result(result, click.echo)


@cli.command("main")
@click.option(
    "--trials", type=click.IntRange(0, 100_000), default=32, show_default=True, help="Per study; 0 for no study."
)
@click.option(
    "--seeds", type=click.IntRange(0, 1000), default=20, show_default=True, help="Of the report; 0 for no report."
)
@settings_options(SHARED_BY_MAIN)
@run_options
def main_command(
    trials: int, seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any
) -> None:
    """Run the whole guide in one process: stages, tuning, promotion, the guide's claims, one closing table."""
    if 0 < seeds < 3:
        raise click.BadParameter(
            f"{seeds} is too few to judge a claim; expected 0 for no report, or at least 3", param_hint="'--seeds'"
        )
    stages = {stage: parse_settings(stage, given) for stage in STAGES}
    # An epoch of `rings` is not comparable with one of the guide's stages, so `--epochs` does not apply to it.
    given_rings = {key: value for key, value in given.items() if key != "epochs"}
    rings_settings = parse_settings("rings", given_rings)
    from abalone.main import run_main
    from abalone.tracking.runs import RunOptions

    options = RunOptions(experiment_name, run_name)
    run_main(stages, click.echo, rings=rings_settings, trials=trials, seeds=seeds, options=options)


def task_option(default: str | None) -> Callable:
    """Add ``--task``: one of the tasks, or both; without a default it is required."""
    choices = click.Choice((*TASKS, "both"))
    if default is None:  # not passed on, because click takes an explicit default of None for a value
        return click.option("--task", type=choices, required=True)
    return click.option("--task", type=choices, default=default, show_default=True)


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks that a value of ``--task`` stands for."""
    if task == "both":
        return TASKS
    return (task,)


def boolean_option(name: str, text: str) -> Callable:
    """Add an option that is true when given bare; ``mlflow run`` always passes a value, true or false."""
    return click.option(name, type=bool, is_flag=False, flag_value=True, default=False, metavar="[BOOLEAN]", help=text)


@cli.command("promote")
@task_option("both")
@click.option("--experiment", default="", help="Experiment whose runs are candidates  [default: that of this run]")
@click.option(
    "--min-improvement",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Least improvement over the champion, in nats (log_loss) or rings (rmse).",
)
@boolean_option("--dry-run", "Decide and report, but leave the registry unchanged.")
@boolean_option("--force", "Promote even if the champion cannot be compared on the same rows.")
@run_options
def promote_command(
    task: str,
    experiment: str,
    min_improvement: float,
    dry_run: bool,
    force: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Make the best classifier and the best regressor champions, and say why."""
    from abalone.registry.promotion import promote
    from abalone.tracking.runs import RunOptions

    promote(
        tasks_of(task),
        click.echo,
        experiment=experiment or None,
        min_improvement=min_improvement,
        dry_run=dry_run,
        force=force,
        options=RunOptions(experiment_name, run_name),
    )


@cli.command("rollback")
@task_option(None)
@run_options
def rollback_command(task: str, experiment_name: str | None, run_name: str | None, debug: bool) -> None:
    """Put the previous champion back."""
    from abalone.registry.rollback import rollback
    from abalone.tracking.runs import RunOptions

    rollback(tasks_of(task), click.echo, RunOptions(experiment_name, run_name))


@cli.command()
@click.option("--task", type=click.Choice(["auto", *TASKS]), default="auto", help="By default, that of the base stage.")
@click.option("--base", type=click.Choice(["auto", *STAGES]), default="auto", help="Stage to start from.")
@click.option("--trials", type=click.IntRange(1, 100_000), default=64, show_default=True, help="In all.")
@click.option("--timeout", type=click.FloatRange(min=0), default=0, help="Seconds; 0 for no limit.", show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Number of processes.")
@click.option(
    "--search",
    default=",".join(settings.SEARCHED_BY_DEFAULT),
    show_default=True,
    help="Settings to search, out of experiments/tune.toml.",
)
@click.option("--study", default="", help="Name; an existing study is continued  [default: a new name]")
@click.option("--storage", default="", help="Of Optuna: database URL or journal file  [default: studies.journal]")
@settings_options(SHARED_BY_MAIN)
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
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
    **given: Any,
) -> None:
    """Search for better settings in an Optuna study, and train the winner."""
    base = base_of(task, base)
    base_settings = parse_settings(base, given)
    check_task(task, base, base_settings.task)
    from abalone.stages.stage import show_result
    from abalone.tracking.runs import RunOptions
    from abalone.tuning.plan import Plan, read_space
    from abalone.tuning.search import Limits
    from abalone.tuning.tune import Where, run_tune

    names = [name.strip() for name in search.replace("-", "_").split(",")]
    try:
        space = read_space([name for name in names if name])
    except settings.BadValue as error:
        raise click.BadParameter(error.message, param_hint="'--search'") from None
    result = run_tune(
        Plan(base, base_settings, space),
        Where(study, storage),
        Limits(trials, timeout, workers),
        click.echo,
        RunOptions(experiment_name, run_name),
    )
    show_result(result, click.echo)


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


@cli.command()
@click.option("--input", required=True, metavar="CSV", help="Rows to score, with or without a header.")
@click.option("--output", required=True, metavar="CSV", help="File to write: the same rows with their scores.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def predict(input: str, output: str, debug: bool) -> None:
    """Score a CSV file of raw rows with both champions."""
    from abalone.registry.scoring import score_csv

    count = score_csv(input, output)
    click.echo(f"{count} rows scored: {output}")


@cli.command()
@click.option("--seeds", type=click.IntRange(3, 1000), default=20, show_default=True, help="How many, counted from 0.")
@settings_options(("device", "data", "epochs"))
@run_options
def report(seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Judge the guide's claims over many seeds, each with its own split."""
    stages = {stage: parse_settings(stage, given) for stage in STAGES}
    from abalone.claims.report import run_report
    from abalone.tracking.runs import RunOptions

    run_report(stages, seeds, click.echo, RunOptions(experiment_name, run_name))


def main() -> None:
    """Run the command line; a failure is one message on stderr and a nonzero exit status."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it draws a bar for every file
    # With matrices this small, torch's threads mostly wait for each other: two of them double the CPU time of `rings`.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    _handle_signals()
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort, Interrupted) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ``mlflow run`` sends it after a Ctrl-C
        click.echo("Interrupted: no run is left running, and what was finished is kept.", err=True)
        status = error.code if isinstance(error, Interrupted) else 130
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            click.echo(f"Error: {_message(error)}", err=True)
        status = 1
    sys.exit(status)


def _message(error: Exception) -> str:
    if isinstance(error, settings.UserError):
        return str(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _handle_signals() -> None:
    """Raise ``Interrupted`` on SIGTERM and SIGHUP, unless they are ignored, as SIGHUP is under nohup."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(128 + number)
