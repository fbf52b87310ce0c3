"""Commands of the project as processes, forked from one that has imported the libraries, so that they start at once."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import mkstemp
from typing import Any

LIBRARIES = ["abalone.cli.program", "mlflow.pytorch", "mlflow.pyfunc", "mlflow.store.tracking.sqlalchemy_store"]
LIBRARIES += ["torch", "pandas", "optuna", "matplotlib.backends.backend_agg", "sklearn.model_selection"]
LONGEST = 3600.0  # seconds that a command may take


@dataclass
class Command:
    """A command that was started.

    Parameters
    ----------
    process : BaseProcess
    log : Path
        File with its stdout and stderr.
    """

    process: BaseProcess
    log: Path

    def finish(self) -> int:
        """Wait for its end; its exit status, negative if it was killed."""
        self.process.join(LONGEST)
        assert self.process.exitcode is not None, f"it did not end within {LONGEST} seconds:\n{self.text()}"
        return self.process.exitcode

    def kill(self) -> bool:
        """Kill it, and say whether it was still running."""
        self.process.kill()
        return self.finish() < 0

    def text(self) -> str:
        """What it has printed."""
        return self.log.read_text()

    def close(self) -> None:
        """Remove the log."""
        self.log.unlink()


def start(folder: Path, *arguments: str) -> Command:
    """Start ``python -m abalone`` in a folder, on the database there."""
    return call(folder, _main, ["abalone", *arguments])


def call(folder: Path, function: Callable[..., Any], *arguments: Any) -> Command:
    """Call a function in a process of its own, in a folder and on the database there."""
    descriptor, name = mkstemp(".txt", "soak-")
    os.close(descriptor)
    log = Path(name)
    process = _context().Process(target=_work, args=(folder, log, function, arguments))
    process.start()
    return Command(process, log)


def run(folder: Path, *arguments: str) -> float:
    """Run a command to its end; seconds that it took. It must succeed."""
    began = time.monotonic()
    command = start(folder, *arguments)
    assert command.finish() == 0, command.text()
    command.close()
    return time.monotonic() - began


def use(folder: Path) -> str:
    """Let this process use the database of a folder; its URI."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    os.environ["MLFLOW_TRACKING_URI"] = uri
    if "mlflow" in sys.modules:
        sys.modules["mlflow"].set_tracking_uri(uri)
    return uri


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


@cache
def _context() -> Any:
    os.environ |= {"OMP_NUM_THREADS": "1", "MLFLOW_LOGGING_LEVEL": "WARNING", "MLFLOW_DISABLE_TELEMETRY": "true"}
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    context = get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


def _work(folder: Path, log: Path, function: Callable[..., Any], arguments: Sequence[Any]) -> None:
    os.chdir(folder)
    use(folder)
    with log.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout = os.fdopen(1, "w", buffering=1)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    function(*arguments)


def _main(arguments: list[str]) -> None:
    from abalone.cli.program import main

    sys.argv = arguments
    main()
