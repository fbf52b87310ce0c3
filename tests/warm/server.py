"""A process that has imported the heavy libraries, and forks a copy of itself for each command of a test.

Run with the name of its socket and the id of the process that runs the tests, it ends with that process. Nothing of
the project is imported here, so a command may run any copy of it. A command ends as any Python program does: with its
own exit status, its ``atexit`` functions and its tracebacks.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import importlib
import json
import logging
import os
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import weakref
from contextlib import suppress
from multiprocessing.spawn import set_executable
from pathlib import Path
from typing import NamedTuple

MOST_FILES = 64  # of a command
HIGH = 500  # number of a file, above those in use

LIBRARIES = (
    "torch",
    "mlflow.cli",
    "mlflow.pytorch",
    "mlflow.store.model_registry.sqlalchemy_workspace_store",
    "mlflow.store.tracking.file_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",
    "mlflow.tracing.processor.base_mlflow",
    "alembic.command",
    "opentelemetry.sdk.metrics",
    "pyarrow.pandas_compat",
    "sqlalchemy.dialects.sqlite",
    "torch.utils.serialization",
    "git",  # with IPython what MLflow imports when a run begins
    "IPython",
    "sklearn.model_selection",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "optuna.importance",
)


class Running(NamedTuple):
    """A command, and what tells that it or its client has ended: a pidfd, and the connection to the client."""

    pid: int
    ended: int
    connection: socket.socket
    leads: bool


def wait_for_command(name: str, tests: int) -> dict:
    """Fork for each connection, and return in the forked process what to run, with its output in place."""
    tests_ended = os.pidfd_open(tests)
    running: list[Running] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        print("ready", flush=True)
        while True:
            watched = [end for command in running for end in (command.ended, command.connection)]
            ready, _, _ = select.select([listener, tests_ended, *watched], [], [])
            if tests_ended in ready:
                sys.exit()
            running = [command for command in running if not has_ended(command, ready)]
            if listener in ready:
                connection, _ = listener.accept()
                files, command = receive(connection)
                if not command:
                    connection.close()
                    continue
                pid = os.fork()
                if pid == 0:
                    os.setpgid(0, 0)
                    close_all(listener, connection, tests_ended, running)
                    open_files(files, command["files"])
                    return command
                running.append(watch(pid, connection, files, command["leads"]))


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether the other end is a process of the user who runs the tests; the socket itself is open to all users."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user == os.getuid()


def receive(connection: socket.socket) -> tuple[list[int], dict]:
    """The files and the command that a client sends; none if it is another user's, or was killed before it sent all."""
    if not is_of_this_user(connection):
        return [], {}
    files: list[int] = []
    try:
        _, files, _, _ = socket.recv_fds(connection, 1, MOST_FILES)
        with connection.makefile() as sent:
            return files, json.loads(sent.readline())
    except (ConnectionError, json.JSONDecodeError):
        for file in files:
            os.close(file)
        return [], {}


def watch(pid: int, connection: socket.socket, files: list[int], leads: bool) -> Running:
    """Send the client the id of its process."""
    os.setpgid(pid, pid)  # here too: a signal may come before the new process has done it
    for file in files:
        os.close(file)
    with suppress(ConnectionError):  # the client was killed at once; see below
        connection.sendall(f"{pid}\n".encode())
    return Running(pid, os.pidfd_open(pid), connection, leads)


def has_ended(command: Running, ready: list) -> bool:
    """Whether a command has ended, of which its client is told, or is killed here because its client has ended."""
    if command.ended not in ready and command.connection not in ready:
        return False
    if command.ended not in ready:
        kill = os.killpg if command.leads else os.kill
        kill(command.pid, signal.SIGKILL)
    _, status = os.waitpid(command.pid, 0)
    with suppress(ConnectionError), command.connection:
        command.connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os.close(command.ended)
    return True


def close_all(listener: socket.socket, connection: socket.socket, tests_ended: int, running: list[Running]) -> None:
    """Close what a command must not keep open."""
    os.close(tests_ended)
    for command in running:
        os.close(command.ended)
    for other in (listener, connection, *(command.connection for command in running)):
        other.close()


def open_files(files: list[int], numbers: list[int]) -> None:
    """Give each file the number that it has in the client; the command may name it."""
    for file, number in zip([fcntl.fcntl(file, fcntl.F_DUPFD, HIGH) for file in files], numbers):
        os.dup2(file, number)
        os.close(file)
    for file in set(files) - set(numbers):
        os.close(file)


def become(command: dict) -> None:
    """Take over the folder, the environment and the signals of the command."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, signal.SIG_IGN if number in command["ignored"] else default)
    os.environ.clear()
    os.environ.update(command["env"])
    os.chdir(command["cwd"])
    sys.executable = str(Path(__file__).with_name("python"))  # MLflow starts its servers with it
    set_executable(sys.executable)
    searched = [command["cwd"], *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    sys.path[:1] = [] if command["arguments"][0] == "-I" else searched  # in place of this file's folder
    if os.environ.get("WARM_FIGURES") == "blank":
        FigureCanvasAgg.print_png = print_pixel
    # MLflow reads this variable when it is imported.
    logging.getLogger("mlflow").setLevel(os.environ.get("MLFLOW_LOGGING_LEVEL", "INFO"))


def run_to_the_end(arguments: list[str]) -> None:
    """Run a command and end as Python does, but without taking the libraries apart, which takes half a second."""
    status = 0
    try:
        run(arguments)
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        status = end.code or 0
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(status & 0xFF)


def skip_finalizers() -> None:
    """Have no object of the libraries finalized when a command ends: torch's take as long as a short command."""
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False


def run(arguments: list[str]) -> None:
    """Do what ``python`` does with these arguments; ``-I`` is heard before, and other flags are not."""
    start = min(arguments.index(option) for option in ("-m", "-c") if option in arguments)
    option, what, *rest = arguments[start:]
    sys.argv = [option, *rest]
    if option == "-m":
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        exec(what, {"__name__": "__main__"})


if __name__ == "__main__":
    gc.disable()
    for library in LIBRARIES:
        importlib.import_module(library)
    from blank_figures import print_pixel
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from shared_statements import compile_statements, share_statements

    share_statements()
    compile_statements()
    skip_finalizers()
    gc.freeze()
    gc.enable()
    command = wait_for_command(sys.argv[1], int(sys.argv[2]))
    become(command)
    run_to_the_end(command["arguments"])
