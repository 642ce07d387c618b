"""What hangs is ended; what does not is left alone."""

from __future__ import annotations

import signal
import threading

import pytest

from pettoolkit.federation.deadline import Late, within


def hang() -> None:
    threading.Event().wait()


def test_a_wait_without_end_is_ended() -> None:
    with pytest.raises(Late), within(0.05):
        hang()


def test_a_computation_without_end_is_ended_though_it_catches_errors() -> None:
    def stubborn() -> None:
        while True:
            try:
                sum(range(1000))
            except Exception:
                pytest.fail("it was taken for an error of its own")

    with pytest.raises(Late), within(0.05):
        stubborn()


def test_what_is_in_time_hears_nothing_and_nothing_rings_afterwards() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with within(60.0):
        pass
    assert signal.getsignal(signal.SIGALRM) is before
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_timer_that_ran_before_goes_on() -> None:
    rings: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: rings.append(number))
    try:
        signal.setitimer(signal.ITIMER_REAL, 100.0)
        with within(50.0):
            pass
        assert 90 < signal.getitimer(signal.ITIMER_REAL)[0] <= 100
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert rings == []


def test_another_thread_has_no_limit() -> None:
    done: list[bool] = []

    def work() -> None:
        with within(1e-6):
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [True]
