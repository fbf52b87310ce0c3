"""Ctrl-C and its kin, kept waiting while something is written."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SIGNAL_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
PATIENCE = 2  # signals that wait; with one more the user means it


@contextmanager
def defer_signals() -> Iterator[None]:
    """Let no signal break off what is in between; the first that came is heard at the end.

    Ignored ones stay ignored. ``mlflow run`` sends a SIGTERM right after the SIGINT of Ctrl-C, so two may come.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # which never gets any
        return
    numbers = [getattr(signal, name) for name in SIGNAL_NAMES if hasattr(signal, name)]
    before = {n: handler for n in numbers if (handler := signal.getsignal(n)) not in (None, signal.SIG_IGN)}
    came: list[int] = []
    held = True

    def collect(number: int, frame: Any) -> None:
        came.append(number)
        if not held or len(came) > PATIENCE:
            signal.signal(number, before[number])
            signal.raise_signal(number)

    try:
        for number in before:
            signal.signal(number, collect)
        yield
    finally:
        held = False  # one that comes from here on is passed on at once
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


@contextmanager
def ignore_ctrl_c() -> Iterator[None]:
    """Let a process that is started in between ignore Ctrl-C until it says otherwise."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
