"""Independent work side by side, in worker processes that are started once per command.

Processes, because the interpreter is the bottleneck of training: two threads are slower than one. A fork server imports
torch and the engines once, while the command does its own imports, and forks each worker from itself. A worker calls
one function at a time, with one thread of torch. It computes what this process would compute, bit for bit.

Without workers everything runs in this process, and a call that was begun runs when its result is asked for.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from itertools import count
from multiprocessing import forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import PriorityQueue, SimpleQueue
from types import ModuleType
from typing import Any

from abalone.setting_values import AUTO
from abalone.settings import UserError

MOST_WORKERS = 256
PRELOADED = (  # by the fork server; as text, because imports in the project go the other way
    "abalone.claims.claims",
    "abalone.tracking.drawing",
    "abalone.training.ahead",
    "matplotlib.backends.backend_agg",
    "sklearn.metrics",
)
CONTEXT = get_context("forkserver")
WAY_OUT = "-P workers=1 computes everything in one process"

_current: ContextVar[_Pool | None] = ContextVar("worker processes", default=None)


def count_workers(workers: int | str) -> int:
    """The number of workers that a value of the option stands for.

    Parameters
    ----------
    workers : int or str
        A number, or ``auto`` for the cores that this process may use: those of its affinity, but no more than the
        quota of its cgroup.
    """
    if workers != AUTO:
        return int(workers)
    from joblib import cpu_count  # a requirement of scikit-learn

    return min(cpu_count(), MOST_WORKERS)


@contextmanager
def worker_processes(workers: int | str) -> Iterator[None]:
    """Have workers within the block. They end with it, and with this process, however it ends.

    Parameters
    ----------
    workers : int or str
        As for ``count_workers``. With 1 there are none: this process does everything itself.
    """
    size = count_workers(workers)
    if size == 1:
        yield
        return
    pool = _Pool(size)
    token = _current.set(pool)
    try:
        yield
    finally:
        _current.reset(token)
        pool.stop()


def has_workers() -> bool:
    """Whether there are workers here."""
    return _current.get() is not None


def begin(function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
    """Have a worker call a function, when nothing more urgent is waiting; ``run_all`` is urgent.

    Parameters
    ----------
    function : callable
        Of a module of the project.
    *arguments
        They are pickled, as the result is.

    Returns
    -------
    callable
        Waits for the result and returns it, or raises what the function raised; ``UserError`` if the worker was killed.
    """
    pool = _current.get()
    if pool is None:
        return partial(function, *arguments)
    return pool.begin(function, arguments, urgent=False)


def run_all(function: Callable[..., Any], calls: Sequence[tuple]) -> list[Any]:
    """Call a function with each tuple of arguments, side by side; return the results in their order."""
    pool = _current.get()
    if pool is None or len(calls) < 2:
        return [function(*arguments) for arguments in calls]
    waits = [pool.begin(function, arguments, urgent=True) for arguments in calls]
    return [wait() for wait in waits]


@dataclass(frozen=True, eq=False)
class _Worker:
    """A process, and the connection to it."""

    process: BaseProcess
    connection: Connection


class _Pool:
    """Worker processes, and a thread for each that waits for its answers."""

    def __init__(self, size: int):
        self.size = size
        self.threads = ThreadPoolExecutor(size, "worker")
        self.workers: list[_Worker] = []
        self.idle: SimpleQueue[_Worker] = SimpleQueue()
        self.calls: PriorityQueue[tuple[bool, int, bytes, Future]] = PriorityQueue()
        self.numbers = count()
        self.lock = threading.Lock()  # held while workers start
        self.stopped = False
        CONTEXT.set_forkserver_preload(list(PRELOADED))
        resource_tracker.ensure_running()  # which the fork server would start, and then unblock Ctrl-C again
        with _ctrl_c_blocked():
            forkserver.ensure_running()  # now, so that it imports while this process goes on

    def begin(self, function: Callable[..., Any], arguments: tuple, urgent: bool) -> Callable[[], Any]:
        with self.lock:  # workers start with the first call, because this waits for the imports of the fork server
            while len(self.workers) < self.size:
                self.idle.put(self._start())
        # Pickled here and whole: a queue of multiprocessing would pass tensors through shared memory, of which a
        # container has 64 MB.
        message = pickle.dumps((function, arguments))
        result: Future[Any] = Future()
        self.calls.put((not urgent, next(self.numbers), message, result))
        self.threads.submit(self._do_next)
        return result.result

    def _do_next(self) -> None:
        """Do the most urgent call, the oldest of several; the body of a thread."""
        _, _, message, result = self.calls.get()
        try:
            result.set_result(self._call(message))
        except Exception as error:
            result.set_exception(error)

    def _start(self) -> _Worker:
        ours, theirs = CONTEXT.Pipe()
        process = CONTEXT.Process(target=_work, args=(theirs,), daemon=True)
        try:
            with _without_main_module():
                process.start()
        except (EOFError, OSError) as error:
            raise UserError(f"no worker process can be started ({error}); {WAY_OUT}") from None
        theirs.close()
        worker = _Worker(process, ours)
        self.workers.append(worker)
        return worker

    def _call(self, message: bytes) -> Any:
        """Have an idle worker do a call."""
        worker = self.idle.get()
        try:
            worker.connection.send_bytes(message)
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError):
            reason = _how_it_ended(worker.process)
            with self.lock:
                if not self.stopped:
                    worker = self._start()  # in its place, for the other calls
            raise UserError(f"{reason} while it computed; if memory ran out, {WAY_OUT}") from None
        finally:
            self.idle.put(worker)
        succeeded, result = pickle.loads(answer)
        if not succeeded:
            raise result
        return result

    def stop(self) -> None:
        """End the workers, whatever they do."""
        with self.lock:
            self.stopped = True
        self.threads.shutdown(wait=False, cancel_futures=True)
        for worker in self.workers:
            worker.process.kill()
        self.threads.shutdown()
        for worker in self.workers:
            worker.process.join()
            worker.connection.close()


def _how_it_ended(process: BaseProcess) -> str:
    process.join()
    status = process.exitcode or 0
    if status < 0:
        return f"worker process {process.pid} was killed by {signal.Signals(-status).name}"
    return f"worker process {process.pid} ended with exit status {status}"


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Processes started within the block do not get SIGINT, which a terminal sends to all: this one ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _without_main_module() -> Iterator[None]:
    """Hide the program from multiprocessing, which would run it again in each process that it starts."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _work(connection: Connection) -> None:
    """Body of a worker: do calls until the connection is closed."""
    import torch

    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the other end is closed
        while True:
            connection.send_bytes(_answer(connection.recv_bytes()))


def _answer(message: bytes) -> bytes:
    """Whether a pickled call succeeded, and its result or its error, pickled."""
    try:
        function, arguments = pickle.loads(message)
        return pickle.dumps((True, function(*arguments)))
    except Exception as error:
        error.add_note(f"In a worker process:\n{traceback.format_exc()}")
        return pickle.dumps((False, error))


def _end_with_parent() -> None:
    """End this process, whatever it computes, as soon as the one that started it is gone."""
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
