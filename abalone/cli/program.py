"""The command-line program: its commands, its error handling, and which of MLflow's messages it shows."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import traceback
from typing import Any

import click

from abalone import settings
from abalone.cli import champion_commands, stage_commands, study_commands
from abalone.cli.group import SectionedGroup
from abalone.tracking.plain_errors import fault
from abalone.tracking.reachable import explain, is_away, set_client_defaults
from abalone.tracking.signals import Interrupted, send_lost_signals_again

cli = SectionedGroup(
    sections={
        "Stages, in the guide's order": stage_commands.STAGE_COMMANDS,
        "Beyond the guide": [stage_commands.rings, study_commands.tune, study_commands.release, study_commands.report],
        "Champions": [
            champion_commands.promote,
            champion_commands.rollback,
            champion_commands.predict,
            champion_commands.evaluate,
        ],
        "Whole project": [
            stage_commands.main,
            champion_commands.status,
            champion_commands.file_results,
            champion_commands.relocate,
        ],
    },
    help="The deep-learning guide on the Abalone data as tracked MLflow runs.\n\n"
    "COMMAND --help shows the options of a command, with their defaults.",
    epilog="Example: python -m abalone encode --epochs 20",
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),
    },
)


def main() -> None:
    """Run the command line; a failure is one message on stderr and a nonzero exit status."""
    collect_less_garbage()
    debug = "--debug" in sys.argv
    set_defaults(debug)
    _handle_signals()
    status: int | str | None
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    except (KeyboardInterrupt, click.Abort, Interrupted) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # ``mlflow run`` sends it after a Ctrl-C
        click.echo("Interrupted: what was finished is kept.", err=True)
        status = error.code if isinstance(error, Interrupted) else 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        else:
            click.echo(f"Error: {_message(error)}", err=True)
        status = 1
    sys.exit(status)


def collect_less_garbage() -> None:
    """Search for garbage less often, and not when the process ends.

    Importing torch and MLflow makes a million objects that stay. Python would search them eight times for cycles that
    nothing refers to, which is a third of the CPU time of a short command.
    """
    gc.set_threshold(10_000)
    atexit.register(gc.freeze)


def set_defaults(debug: bool = False) -> None:
    """Set environment variables of the libraries, unless the user has.

    Parameters
    ----------
    debug : bool
        Whether MLflow's own messages are shown.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # it draws a bar for every file
    os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")  # a request of its own, for large files
    # With matrices this small, torch's threads mostly wait for each other: two of them double the CPU time of `rings`.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    set_client_defaults()
    if not debug:
        _silence_mlflow()


def _silence_mlflow() -> None:
    """Keep MLflow from reporting on tables, experiments and the end of each run; worker processes inherit this.

    MLflow sets the level of its own loggers and of Alembic's when it is imported, from the environment.
    """
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


def _message(error: Exception) -> str:
    if isinstance(error, settings.UserError):
        return str(error)
    sentence = fault(error)
    if sentence:
        return sentence
    if is_away(error):
        return explain(error)
    return f"{type(error).__name__}: {error} (--debug shows where)"


def _handle_signals() -> None:
    """Raise ``Interrupted`` on SIGTERM and SIGHUP, unless they are ignored, as SIGHUP is under nohup."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)
    send_lost_signals_again()


def _interrupt(number: int, frame: Any) -> None:
    raise Interrupted(128 + number)
