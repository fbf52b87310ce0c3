"""Options that several commands share, and the settings that they stand for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

import click

from abalone import settings
from abalone.setting_values import AUTO
from abalone.settings import STAGES, TASKS
from abalone.side_by_side import MOST_WORKERS

SETTING_METAVAR = "VALUE"  # of the options that stand for settings
SHARED_BY_MAIN = ("seed", "device", "data", "units", "target", "epochs")


def settings_options(names: Sequence[str], stage: str | None = None) -> Callable:
    """Add an option for each named setting of ``stage``, or of the guide's stages.

    The help of an option shows the default of the stage's TOML file, or the default that all stages share.
    """
    defaults = settings.read_toml(stage) if stage else shared_defaults()
    keys = [spec for spec in fields(settings.settings_type(stage)) if spec.name in names]

    def decorate(command: Callable) -> Callable:
        for spec in reversed(keys):
            text = f"{spec.metadata['expected']}  [default: {settings.as_text(defaults[spec.name])}]"
            option = f"--{spec.name.replace('_', '-')}"
            command = click.option(option, spec.name, metavar=SETTING_METAVAR, help=text)(command)
        return command

    return decorate


@cache
def shared_defaults() -> dict[str, Any]:
    """The settings that are the same in the files of all stages of the guide."""
    first, *others = [settings.read_toml(stage) for stage in STAGES]
    shared = {}
    for key, value in first.items():
        if all(other[key] == value for other in others):
            shared[key] = value
    return shared


def debug_option(command: Callable) -> Callable:
    """Add ``--debug``, which ``program.main`` looks for."""
    return click.option("--debug", is_flag=True, help="Show MLflow's messages, and a traceback with an error.")(command)


def experiment_option(command: Callable) -> Callable:
    """Add ``--experiment-name``."""
    return click.option("--experiment-name", help="MLflow experiment  [default: abalone]")(command)


def run_options(command: Callable) -> Callable:
    """Add the options of every command that makes a run: its experiment, its name, and how errors are shown."""
    command = debug_option(command)
    command = click.option("--run-name", help="Name of the run  [default: that of the command]")(command)
    return experiment_option(command)


def task_option(default: str | None) -> Callable:
    """Add ``--task``: one of the tasks, or both; without a default it is required."""
    choices = click.Choice((*TASKS, "both"))
    if default is None:  # not passed on, because click takes an explicit default of None for a value
        return click.option("--task", type=choices, required=True, help="Task of the champion.")
    return click.option("--task", type=choices, default=default, show_default=True, help="Task of the champion.")


def tasks_of(task: str) -> tuple[str, ...]:
    """The tasks that a value of ``--task`` stands for."""
    if task == "both":
        return TASKS
    return (task,)


def boolean_option(name: str, text: str) -> Callable:
    """Add an option that is true when given bare; ``mlflow run`` always passes a value, true or false."""
    return click.option(
        name,
        type=bool,
        is_flag=False,
        flag_value=True,
        default=False,
        metavar="[BOOLEAN]",
        help=f"{text}  [default: false]",
    )


def parse_workers(value: int | str) -> int | str:
    """A value of ``--workers``: auto, or a number of processes."""
    if value == AUTO:
        return AUTO
    try:
        number = int(value)
    except ValueError:
        number = 0
    if not 1 <= number <= MOST_WORKERS:
        raise click.BadParameter(f"{value!r} is not valid; expected auto, or a number from 1 to {MOST_WORKERS}")
    return number


workers_option = click.option(
    "--workers",
    type=parse_workers,
    default=AUTO,
    show_default=True,
    metavar="[auto|NUMBER]",
    help="Worker processes to compute in; auto for as many as there are cores, 1 for none. The results are the same.",
)


json_option = boolean_option("--json", "Print one JSON object and nothing else; progress goes to stderr.")


def parse_settings(stage: str, given: Mapping[str, Any]) -> Any:
    """The settings of a stage, overridden by the options that were given; a bad value is a usage error."""
    overrides = {key: value for key, value in given.items() if value is not None}
    if "data" in overrides:
        overrides["data"] = absolute_data(overrides["data"])
    try:
        return settings.load_settings(stage, overrides)
    except settings.BadValue as error:
        option = f"--{error.key.replace('_', '-')}"
        raise click.BadParameter(error.message, param_hint=f"'{option}'") from None


def absolute_data(source: str) -> str:
    """A value of ``--data`` as a run records it: ``uci``, or an absolute path without quotes around it."""
    path = source.strip()
    if path in ("", "uci"):
        return path
    if path[0] == path[-1] and path[0] in "'\"" and not Path(path).exists():
        path = path[1:-1]
    return os.path.abspath(os.path.expanduser(path))


def keys_of(stage: str) -> list[str]:
    """Names of a stage's settings."""
    return [spec.name for spec in fields(settings.settings_type(stage))]
