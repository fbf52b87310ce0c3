"""Write both ``MLproject`` files from the commands and their settings: ``make mlproject``.

MLflow reads parameters and defaults of an entry point from such a file alone, so it repeats what the command line
knows.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from abalone import settings
from abalone.cli.options import SETTING_METAVAR, shared_defaults
from abalone.cli.program import cli
from abalone.settings import STAGES, stages_before

ROOT = Path(__file__).resolve().parents[2]
HEAD = """\
name: abalone

conda_env: conda.yaml

# Made by `make mlproject` from the commands and from experiments/; a test compares.
# Each stage inherits the parameters of the stage before it and changes only what the guide teaches there.
entry_points:
"""
DEPLOYED_HEAD = """\
# For `mlflow run deploy --backend kubernetes`, which needs docker_env; MLflow allows no conda_env beside it, so the
# project's own MLproject cannot have it. Made with that one by `make mlproject`. No entry point has parameters: MLflow
# appends each `-P key=value` as `--key value`, and the command knows its defaults.
name: abalone

docker_env:
  image: abalone

entry_points:
"""
NOT_PARAMETERS = ("experiment_name", "run_name", "debug")  # the first two are options of `mlflow run` itself
WIDTH = 118
INDENT = " " * 6
NO_BREAK = "\N{NO-BREAK SPACE}"  # keeps an option and its value on one line
REQUIRED = object()


def mlproject() -> str:
    """The text of ``MLproject``."""
    entries = [_entry(name, command) for name, command in cli.commands.items()]
    return HEAD + "\n".join(entries)


def deployed_mlproject() -> str:
    """The text of ``deploy/MLproject``, which has the same entry points in an image."""
    entries = [f"  {name}: {{command: python -m abalone {name}}}\n" for name in cli.commands]
    return DEPLOYED_HEAD + "".join(entries)


def _entry(name: str, command: click.Command) -> str:
    defaults = _defaults(name, command)
    lines = [f"  {name}:"]
    if defaults:
        lines += _parameters(name, defaults)
    options = [f"--{key.replace('_', '-')}{NO_BREAK}{{{key}}}" for key in defaults]
    lines += _command(" ".join([f"python -m abalone {name}", *options]))
    return "\n".join(lines) + "\n"


def _command(words: str) -> list[str]:
    """The key ``command``, folded if it is too long for a line."""
    line = f"    command: {words}"
    lines = [line]
    if len(line) > WIDTH:
        folded = textwrap.wrap(words, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT, break_on_hyphens=False)
        lines = ["    command: >-", *folded]
    return [line.replace(NO_BREAK, " ") for line in lines]


def _defaults(name: str, command: click.Command) -> dict[str, Any]:
    """The default of each parameter of a command, or ``REQUIRED``."""
    if name in (*STAGES, "rings"):
        return settings.read_toml(name)
    found = {}
    for option in command.params:
        if option.name not in NOT_PARAMETERS:
            found[option.name] = _default(option)
    return found


def _default(option: click.Parameter) -> Any:
    if option.required:
        return REQUIRED
    if option.metavar == SETTING_METAVAR:
        return shared_defaults()[option.name]
    return option.type.convert(option.default, option, None)


def _parameters(name: str, defaults: Mapping[str, Any]) -> list[str]:
    """The key ``parameters``: of a stage, only what it does not inherit from the stage before it."""
    if name not in STAGES:
        return ["    parameters:", *_specifications(defaults)]
    lines = [f"    parameters: &{name}"]
    before = stages_before(name)
    if not before:
        return lines + _specifications(defaults)
    taught = {key: value for key, value in defaults.items() if key in STAGES[name].taught}
    return [*lines, f"      <<: *{before[-1]}", *_specifications(taught)]


def _specifications(defaults: Mapping[str, Any]) -> list[str]:
    return [f"{INDENT}{key}: {_specification(value)}" for key, value in defaults.items()]


def _specification(default: Any) -> str:
    if default is REQUIRED:
        return "{type: string}"
    if isinstance(default, bool) or not isinstance(default, int | float):
        return f"{{type: string, default: {json.dumps(settings.as_text(default), ensure_ascii=False)}}}"
    return f"{{type: {type(default).__name__}, default: {default}}}"


if __name__ == "__main__":
    (ROOT / "MLproject").write_text(mlproject(), encoding="utf-8")
    (ROOT / "deploy" / "MLproject").write_text(deployed_mlproject(), encoding="utf-8")
