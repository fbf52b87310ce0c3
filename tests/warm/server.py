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
from contextlib import suppress
from multiprocessing.spawn import set_executable
from pathlib import Path

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


def wait_for_command(name: str, tests: int) -> dict:
    """Fork for each connection, and return in the forked process what to run, with its output in place."""
    ended = os.pidfd_open(tests)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the processes that watch
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, ended], [], [])
            if ended in ready:
                sys.exit()
            connection, _ = listener.accept()
            with connection:
                if is_of_this_user(connection) and os.fork() == 0:
                    listener.close()
                    os.close(ended)
                    return watch(connection)


def is_of_this_user(connection: socket.socket) -> bool:
    """Whether the other end is a process of the user who runs the tests; the socket itself is open to all users."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user == os.getuid()


def watch(connection: socket.socket) -> dict:
    """Fork once more and return in the new process; send its id and its exit status, or kill it with its client."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(connection, 1, MOST_FILES)
    command = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        connection.close()
        open_files(files, command["files"])
        return command
    os.setpgid(pid, pid)  # here too: a signal may come before the new process has done it
    for file in (0, 1, 2, *files):
        os.close(file)
    with suppress(ConnectionError):  # the client was killed at once; see below
        connection.sendall(f"{pid}\n".encode())
    ended = os.pidfd_open(pid)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        kill = os.killpg if command["leads"] else os.kill
        kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    if ended in ready:
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


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
    gc.freeze()
    gc.enable()
    command = wait_for_command(sys.argv[1], int(sys.argv[2]))
    become(command)
    run_to_the_end(command["arguments"])
