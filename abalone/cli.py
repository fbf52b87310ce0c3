"""The command line: one command per entry point of MLproject; parse, validate, call."""

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
    """A signal asked the process to end; runs end KILLED."""


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    }
)
def cli() -> None:
    """The deep-learning guide on the Abalone data as tracked MLflow runs."""


def settings_options(names: Sequence[str], stage: str | None = None) -> Callable:
    """Give a command an option per key of its settings; with a stage, show its TOML values as defaults."""
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
    """Options of every command that makes a run: where it is filed, and how errors are shown."""
    command = click.option("--debug", is_flag=True, help="Show a traceback with an error.")(command)
    command = click.option("--run-name", help="Name of the run.")(command)
    return click.option("--experiment-name", help="MLflow experiment  [default: abalone]")(command)


def load(stage: str, given: Mapping[str, Any]) -> Any:
    """The settings of a stage with the given options over them; a wrong one is a usage error."""
    overrides = {key: value for key, value in given.items() if value is not None}
    try:
        return settings.load_settings(stage, overrides)
    except settings.BadValue as error:
        option = f"--{error.key.replace('_', '-')}"
        raise click.BadParameter(error.message, param_hint=f"'{option}'") from None


def keys_of(stage: str) -> list[str]:
    """Names of all settings of a stage."""
    return [spec.name for spec in fields(settings.settings_type(stage))]


def add_stage_command(stage: str) -> None:
    """Add the command of one stage of the guide."""

    @cli.command(stage, help=f"{STAGES[stage].teaches} (Guide section {STAGES[stage].guide}.)")
    @settings_options(keys_of(stage), stage)
    @run_options
    def command(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
        stage_settings = load(stage, given)
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
    """Beyond the guide; its help text stands in settings."""
    rings_settings = load("rings", given)
    from abalone.stages.rings import run_rings
    from abalone.stages.stage import show_result
    from abalone.tracking.runs import RunOptions

    result = run_rings(rings_settings, RunOptions(experiment_name, run_name))
    show_result(result, click.echo)


@cli.command("main")
@click.option(
    "--trials", type=click.IntRange(0, 100_000), default=32, show_default=True, help="Of each study; 0: none."
)
@click.option(
    "--seeds", type=click.IntRange(0, 1000), default=20, show_default=True, help="Of the report; 0: no report."
)
@settings_options(SHARED_BY_MAIN)
@run_options
def main_command(
    trials: int, seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any
) -> None:
    """Run the whole guide in one process: stages, tuning, promotion, the guide's claims, one closing table."""
    if 0 < seeds < 3:
        raise click.BadParameter(
            f"{seeds} seeds tell nothing; expected 0 for no report, or 3 or more", param_hint="'--seeds'"
        )
    stages = {stage: load(stage, given) for stage in STAGES}
    # Its epochs are steps of another method, and its own.
    given_rings = {key: value for key, value in given.items() if key != "epochs"}
    rings_settings = load("rings", given_rings)
    from abalone.main import run_main
    from abalone.tracking.runs import RunOptions

    options = RunOptions(experiment_name, run_name)
    run_main(stages, click.echo, rings=rings_settings, trials=trials, seeds=seeds, options=options)


def task_option(default: str | None) -> Callable:
    """Which of the two champions; required without a default."""
    return click.option(
        "--task",
        type=click.Choice((*TASKS, "both")),
        default=default,
        required=default is None,
        show_default=default is not None,
    )


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks that a choice of one or both stands for."""
    if task == "both":
        return TASKS
    return (task,)


def switch(name: str, text: str):
    """An option that is true when given bare, and takes true or false."""
    return click.option(name, type=bool, is_flag=False, flag_value=True, default=False, metavar="[BOOLEAN]", help=text)


@cli.command()
@task_option("both")
@click.option("--experiment", default="", help="Whose runs to look at  [default: the experiment of this run]")
@click.option(
    "--min-improvement",
    type=click.FloatRange(min=0),
    default=0,
    show_default=True,
    help="Least improvement over the champion, in nats (log_loss) or rings (rmse).",
)
@switch("--dry-run", "Decide and tell, but leave the registry as it is.")
@switch("--force", "Promote even where the champion cannot be compared on the same rows.")
@run_options
def promote(
    task: str,
    experiment: str,
    min_improvement: float,
    dry_run: bool,
    force: bool,
    experiment_name: str | None,
    run_name: str | None,
    debug: bool,
) -> None:
    """Make the best classifier and the best regressor champions, with reasons."""
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


@cli.command()
@task_option(None)
@run_options
def rollback(task: str, experiment_name: str | None, run_name: str | None, debug: bool) -> None:
    """Put the previous champion back."""
    from abalone.registry.rollback import rollback
    from abalone.tracking.runs import RunOptions

    rollback(tasks_of(task), click.echo, RunOptions(experiment_name, run_name))


@cli.command()
@click.option("--task", type=click.Choice(["auto", *TASKS]), default="auto", help="By default that of the base.")
@click.option("--base", type=click.Choice(["auto", *STAGES]), default="auto", help="Stage to start from.")
@click.option("--trials", type=click.IntRange(1, 100_000), default=64, show_default=True, help="How many in all.")
@click.option("--timeout", type=click.FloatRange(min=0), default=0, help="Seconds; 0 for none.", show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option(
    "--search",
    default=",".join(settings.SEARCHED_BY_DEFAULT),
    show_default=True,
    help="Settings of experiments/tune.toml to search.",
)
@click.option("--study", default="", help="Name; a known one is continued  [default: a new name]")
@click.option(
    "--storage", default="", help="Optuna's: a database's URL or a journal's path  [default: studies.journal]"
)
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
    base_settings = load(base, given)
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
    """Complain of a base stage that is of another task."""
    if task in ("auto", task_of_base):
        return
    known = [stage for stage in STAGES if settings.read_toml(stage)["task"] == task]
    raise click.BadParameter(f"{base} is no {task}; expected one of {', '.join(known)}", param_hint="'--base'")


@cli.command()
@click.option("--input", required=True, metavar="CSV", help="Rows to score, with or without a header.")
@click.option("--output", required=True, metavar="CSV", help="The same rows and their scores.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def predict(input: str, output: str, debug: bool) -> None:
    """Score a CSV file of raw rows with both champions."""
    from abalone.registry.scoring import score_csv

    click.echo(f"{score_csv(input, output)} rows scored: {output}")


@cli.command()
@click.option("--seeds", type=click.IntRange(3, 1000), default=20, show_default=True, help="How many, from 0.")
@settings_options(("device", "data", "epochs"))
@run_options
def report(seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Judge the guide's claims over many seeds, splits included."""
    stages = {stage: load(stage, given) for stage in STAGES}
    from abalone.claims.report import run_report
    from abalone.tracking.runs import RunOptions

    run_report(stages, seeds, click.echo, RunOptions(experiment_name, run_name))


def main() -> None:
    """Run the command line; every failure is one message on stderr and an exit status that is not 0."""
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # bars of one file each
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads only wait for each other over matrices this small
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number and signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, _interrupt)
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort, Interrupted) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ``mlflow run`` sends it after a Ctrl-C; the end is near
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


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(128 + number)
