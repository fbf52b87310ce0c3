"""The command line: one command per entry point of MLproject; parse, validate, call."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from dataclasses import fields
from typing import Any

import click

from abalone import config

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


def experiment_options(names: tuple[str, ...], stage: str | None = None):
    """Give a command an option per key of its settings; with a stage, show its TOML values as defaults."""
    defaults, kind = config.read_toml(stage) if stage else {}, config.kind(stage)

    def decorate(command):
        for spec in reversed([f for f in fields(kind) if f.name in names]):
            default = f"  [default: {config.as_text(defaults[spec.name])}]" if defaults else ""
            option = f"--{spec.name.replace('_', '-')}"
            command = click.option(option, spec.name, metavar="VALUE", help=spec.metadata["expected"] + default)(
                command
            )
        return command

    return decorate


def run_options(command):
    """Where a run is filed, and how errors are shown."""
    command = click.option("--debug", is_flag=True, help="Show a traceback with an error.")(command)
    command = click.option("--run-name", help="Name of the run.")(command)
    return click.option("--experiment-name", help="MLflow experiment  [default: abalone]")(command)


def load(stage: str, given: dict[str, Any]) -> Any:
    """The settings of a stage with the given options over them; a wrong one is a usage error."""
    try:
        return config.load(stage, {key: value for key, value in given.items() if value is not None})
    except config.BadValue as error:
        option = f"--{error.key.replace('_', '-')}"
        raise click.BadParameter(error.message, param_hint=f"'{option}'") from None


def stage_command(stage: str) -> None:
    """Add the command of one stage."""

    @cli.command(stage, help=f"{config.STAGES[stage].teaches} (Guide section {config.STAGES[stage].guide}.)")
    @experiment_options(tuple(f.name for f in fields(config.Experiment)), stage)
    @run_options
    def command(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
        experiment = load(stage, given)
        from abalone import stages

        stages.run_single(stage, experiment, click.echo, experiment_name=experiment_name, run_name=run_name)


for _stage in config.STAGES:
    stage_command(_stage)


@cli.command("rings", help=f"{config.RINGS.teaches} ({config.RINGS.guide.capitalize()}.)")
@experiment_options(tuple(f.name for f in fields(config.RingsExperiment)), "rings")
@run_options
def rings(experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Beyond the guide; its text is in config."""
    experiment = load("rings", given)
    from abalone import rings_stage

    rings_stage.run_single(experiment, click.echo, experiment_name=experiment_name, run_name=run_name)


@cli.command("main")
@click.option(
    "--trials", type=click.IntRange(0, 100_000), default=32, show_default=True, help="Of each study; 0: none."
)
@click.option(
    "--seeds", type=click.IntRange(0, 1000), default=20, show_default=True, help="Of the report; 0: no report."
)
@experiment_options(SHARED_BY_MAIN)
@run_options
def everything(trials: int, seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any):
    """The whole guide in one process: stages, tuning, promotion, the guide's claims, one closing table."""
    if 0 < seeds < 3:
        raise click.BadParameter(
            f"{seeds} seeds tell nothing; expected 0 for no report, or 3 or more", param_hint="'--seeds'"
        )
    experiments = {stage: load(stage, given) for stage in config.STAGES}
    # Its epochs are steps of another method, and its own.
    rings = load("rings", {key: value for key, value in given.items() if key != "epochs"})
    from abalone import guide

    names = {"experiment_name": experiment_name, "run_name": run_name}
    guide.run_all(experiments, click.echo, rings=rings, trials=trials, seeds=seeds, **names)


def task_option(default: str | None):
    """Which of the two champions; required without a default."""
    kinds = (*config.TASKS, "both")
    return click.option(
        "--task", type=click.Choice(kinds), default=default, required=not default, show_default=bool(default)
    )


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks that a choice of one or both stands for."""
    return config.TASKS if task == "both" else (task,)


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
def promote(task: str, experiment: str, experiment_name: str | None, debug: bool, **options: Any) -> None:
    """Make the best classifier and the best regressor champions, with reasons."""
    from abalone import registry

    names = {"experiment": experiment or None, "experiment_name": experiment_name}
    registry.promote(tasks_of(task), click.echo, **names, **options)


@cli.command()
@task_option(None)
@run_options
def rollback(task: str, debug: bool, **options: Any) -> None:
    """Put the previous champion back."""
    from abalone import registry

    registry.rollback(tasks_of(task), click.echo, **options)


@cli.command()
@click.option("--task", type=click.Choice(["auto", *config.TASKS]), default="auto", help="By default that of the base.")
@click.option("--base", type=click.Choice(["auto", *config.STAGES]), default="auto", help="Stage to start from.")
@click.option("--trials", type=click.IntRange(1, 100_000), default=64, show_default=True, help="How many in all.")
@click.option("--timeout", type=click.FloatRange(min=0), default=0, help="Seconds; 0 for none.", show_default=True)
@click.option("--workers", type=click.IntRange(1, 256), default=1, show_default=True, help="Processes.")
@click.option(
    "--search",
    default=",".join(config.SEARCHED),
    show_default=True,
    help="Settings of experiments/tune.toml to search.",
)
@click.option("--study", help="Name; a known one is continued  [default: a new name]")
@click.option("--storage", help="Optuna's: a database's URL or a journal's path  [default: studies.journal]")
@experiment_options(SHARED_BY_MAIN)
@run_options
def tune(task: str, base: str, search: str, experiment_name: str | None, debug: bool, **given: Any) -> None:
    """Search for better settings in an Optuna study, and train the winner."""
    base = {"regression": "regress"}.get(task, "encode") if base == "auto" else base
    experiment = load(base, {key: given.pop(key) for key in SHARED_BY_MAIN})
    if task not in ("auto", experiment.task):
        of_task = [stage for stage in config.STAGES if config.read_toml(stage)["task"] == task]
        raise click.BadParameter(f"{base} is no {task}; expected one of {', '.join(of_task)}", param_hint="'--base'")
    from abalone import studies, tune_stage, tuning

    try:
        space = studies.read_space([name.strip() for name in search.replace("-", "_").split(",") if name.strip()])
    except config.BadValue as error:
        raise click.BadParameter(error.message, param_hint="'--search'") from None
    names = {"experiment_name": experiment_name, "run_name": given.pop("run_name")}
    where = tune_stage.Where(given.pop("study") or "", given.pop("storage") or "")
    limits = tuning.Limits(**given)
    tune_stage.run_single(studies.Plan(base, experiment, space), where, limits, click.echo, **names)


@cli.command()
@click.option("--input", required=True, metavar="CSV", help="Rows to score, with or without a header.")
@click.option("--output", required=True, metavar="CSV", help="The same rows and their scores.")
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
def predict(input: str, output: str, debug: bool) -> None:
    """Score a CSV file of raw rows with both champions."""
    from abalone import scoring

    click.echo(f"{scoring.score_csv(input, output)} rows scored: {output}")


@cli.command()
@click.option("--seeds", type=click.IntRange(3, 1000), default=20, show_default=True, help="How many, from 0.")
@experiment_options(("device", "data", "epochs"))
@run_options
def report(seeds: int, experiment_name: str | None, run_name: str | None, debug: bool, **given: Any) -> None:
    """Judge the guide's claims over many seeds, splits included."""
    experiments = {stage: load(stage, given) for stage in config.STAGES}
    from abalone import report

    report.run_report(experiments, seeds, click.echo, experiment_name=experiment_name, run_name=run_name)


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
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # which ``mlflow run`` sends after a Ctrl-C; the end is near
        click.echo("Interrupted: no run is left running, and what was finished is kept.", err=True)
        status = error.code if isinstance(error, Interrupted) else 130
    except Exception as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        else:
            known = isinstance(error, config.UserError)
            click.echo(
                f"Error: {error}" if known else f"Error: {type(error).__name__}: {error} (--debug shows where)",
                err=True,
            )
        status = 1
    sys.exit(status)


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(128 + number)
