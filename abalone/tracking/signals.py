"""SIGINT, SIGTERM and SIGHUP: deferred during writes, so that none leaves something half written, and never lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
MAX_DEFERRED = 2  # Ctrl-C on `mlflow run` sends two: SIGINT, and SIGTERM right after it
MOMENT = 0.05  # seconds in which a ``__del__`` ends


class Interrupted(SystemExit):
    """Raised on SIGTERM and SIGHUP, so that open runs end as KILLED before the process exits."""


@contextmanager
def defer_signals() -> Iterator[None]:
    """Defer signals until the end of the block, then raise the first one that arrived.

    One signal more than ``MAX_DEFERRED`` takes effect at once. Ignored signals stay ignored. In other threads than
    the main one this does nothing, since Python handles signals in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = _handlers()
    received: list[int] = []
    deferring = True

    def receive(number: int, frame: Any) -> None:
        received.append(number)
        if not deferring or len(received) > MAX_DEFERRED:
            signal.signal(number, handlers[number])
            signal.raise_signal(number)

    try:
        for number in handlers:
            signal.signal(number, receive)
        yield
    finally:
        deferring = False  # a signal that arrives while the handlers are being restored takes effect at once
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if received:
            signal.raise_signal(received[0])


def _handlers() -> dict[int, Any]:
    """Current handlers of the signals to defer, without those that are ignored or not set by Python."""
    handlers = {}
    for name in SIGNAL_NAMES:
        number = getattr(signal, name, None)  # SIGHUP does not exist on Windows
        if number is None:
            continue
        handler = signal.getsignal(number)
        if handler not in (None, signal.SIG_IGN):
            handlers[number] = handler
    return handlers


@contextmanager
def ignore_ctrl_c() -> Iterator[None]:
    """Ignore Ctrl-C within the block; processes started there inherit this until they set a handler of their own."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def send_lost_signals_again() -> None:
    """Send a signal again that arrived in a ``__del__`` or in the callback of a weak reference.

    Python lets no exception out of them: it prints the one that the signal raised, and goes on.
    """
    sys.unraisablehook = _send_again


def _send_again(ignored: Any) -> None:
    error = ignored.exc_value
    if not isinstance(error, KeyboardInterrupt | Interrupted):
        sys.__unraisablehook__(ignored)
        return
    number = int(error.code or 0) - 128 if isinstance(error, Interrupted) else signal.SIGINT
    later = threading.Timer(MOMENT, os.kill, (os.getpid(), number))
    later.daemon = True
    later.start()
