"""Signals that wait: which, until when, and what is as before afterwards."""

from __future__ import annotations

import signal
import threading

import pytest

from abalone.tracking.signals import PATIENCE, SIGNAL_NAMES, defer_signals

NUMBERS = [getattr(signal, name) for name in SIGNAL_NAMES]


class Heard(Exception):
    """What the handlers of these tests raise."""


@pytest.fixture(autouse=True)
def handler():
    """A handler that raises, for each of the signals; in the end those of pytest again."""

    def raising(number, frame):
        raise Heard(number)

    before = {number: signal.signal(number, raising) for number in NUMBERS}
    yield raising
    for number, known in before.items():
        signal.signal(number, known)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_heard_at_the_end_and_the_handlers_are_as_before(handler, number):
    done = []
    with pytest.raises(Heard, match=str(int(number))), defer_signals():
        signal.raise_signal(number)
        done.append("all that is in between")
    assert done and all(signal.getsignal(n) is handler for n in NUMBERS)


def test_of_two_that_wait_the_first_is_heard_and_one_more_is_not_made_to_wait(handler):
    with pytest.raises(Heard, match=str(int(signal.SIGTERM))), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    reached = []
    with pytest.raises(Heard), defer_signals():
        for _ in range(PATIENCE + 1):
            signal.raise_signal(signal.SIGINT)
            reached.append(1)
    assert len(reached) == PATIENCE and all(signal.getsignal(n) is handler for n in NUMBERS)


def test_inside_another_it_waits_for_the_end_of_the_outer_one():
    done = []
    with pytest.raises(Heard), defer_signals():
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
        done.append(1)
    assert done


def test_what_fails_in_between_is_told_and_so_is_the_signal(handler):
    with pytest.raises(Heard) as heard, defer_signals():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("planted")
    assert isinstance(heard.value.__context__, ValueError)
    with pytest.raises(ValueError, match="planted"), defer_signals():
        raise ValueError("planted")
    assert signal.getsignal(signal.SIGINT) is handler


def test_what_is_ignored_stays_ignored_and_another_thread_changes_nothing(handler):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with defer_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    def in_thread():
        with defer_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    seen: list = []
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [handler]
