"""Commands, each with an example in its help, and a group that lists them in sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import Any

import click

from abalone.tracking.reachable import check_store

LONGEST_SUMMARY = 200  # characters of a command's line in the list; the formatter wraps it


class SectionedGroup(click.Group):
    """A group whose help lists its commands in sections, in the order given.

    Parameters
    ----------
    sections : mapping of title to sequence of Command
    """

    def __init__(self, sections: Mapping[str, Sequence[click.Command]], **options: Any):
        super().__init__(**options)
        self.sections = sections
        for commands in sections.values():
            for command in commands:
                self.add_command(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of all commands, section by section."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list of commands per section."""
        widest = max(len(name) for name in self.commands)
        for title, commands in self.sections.items():
            rows = [
                ((command.name or "").ljust(widest), command.get_short_help_str(LONGEST_SUMMARY))
                for command in commands
            ]
            with formatter.section(title):
                formatter.write_dl(rows)


def command(
    name: str, example: str, text: str | None = None, summary: str | None = None
) -> Callable[[Callable], click.Command]:
    """Turn the decorated function into a command, which first asks whether the tracking store answers.

    Parameters
    ----------
    name : str
        Name of the command.
    example : str
        Options of the example that its help ends with.
    text : str, optional
        Help; by default the docstring of the function.
    summary : str, optional
        Line in the list of commands; by default the first sentence of the help.
    """
    epilog = f"Example: python -m abalone {name} {example}"

    def decorate(function: Callable) -> click.Command:
        @wraps(function)
        def run(**options: Any) -> Any:
            check_store()
            return function(**options)

        return click.command(name, help=text, short_help=summary, epilog=epilog)(run)

    return decorate
