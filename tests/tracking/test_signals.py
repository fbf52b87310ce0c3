"""Deferred signals: which ones, until when, and that the handlers are restored."""

from __future__ import annotations

import signal
import threading

import pytest

from abalone.tracking.signals import MAX_DEFERRED, SIGNAL_NAMES, defer_signals

NUMBERS = [getattr(signal, name) for name in SIGNAL_NAMES]


class Handled(Exception):
    """Raised by the handlers of these tests."""


@pytest.fixture(autouse=True)
def handler():
    """A handler that raises, installed for each of the signals during a test."""

    def raise_handled(number, frame):
        raise Handled(number)

    before = {number: signal.signal(number, raise_handled) for number in NUMBERS}
    yield raise_handled
    for number, previous in before.items():
        signal.signal(number, previous)


def assert_restored(handler) -> None:
    assert all(signal.getsignal(number) is handler for number in NUMBERS)


@pytest.mark.parametrize("number", NUMBERS)
def test_a_signal_is_handled_at_the_end_and_the_handlers_are_restored(handler, number):
    done = []
    with pytest.raises(Handled, match=str(int(number))), defer_signals():
        signal.raise_signal(number)
        done.append("the rest of the block")
    assert done
    assert_restored(handler)


def test_of_two_deferred_signals_the_first_is_handled():
    with pytest.raises(Handled, match=str(int(signal.SIGTERM))), defer_signals():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)


def test_one_signal_more_than_the_limit_takes_effect_at_once(handler):
    reached = []
    with pytest.raises(Handled), defer_signals():
        for i in range(MAX_DEFERRED + 1):
            signal.raise_signal(signal.SIGINT)
            reached.append(i)
    assert len(reached) == MAX_DEFERRED
    assert_restored(handler)


def test_a_nested_block_defers_to_the_end_of_the_outer_one():
    done = []
    with pytest.raises(Handled), defer_signals():
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
        done.append("the rest of the outer block")
    assert done


def test_an_exception_of_the_block_is_kept_with_and_without_a_signal(handler):
    with pytest.raises(Handled) as handled, defer_signals():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("planted")
    assert isinstance(handled.value.__context__, ValueError)
    with pytest.raises(ValueError, match="planted"), defer_signals():
        raise ValueError("planted")
    assert signal.getsignal(signal.SIGINT) is handler


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with defer_signals():
        signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_another_thread_changes_no_handlers(handler):
    seen = []

    def look_from_thread():
        with defer_signals():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look_from_thread)
    thread.start()
    thread.join()
    assert seen == [handler]
