"""A limit on how long something may take in this process, one that ends what hangs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Late(BaseException):
    """Raised where the limit is passed; no ordinary error, so that nobody on the way takes it for one of his."""


@contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """End the block with :class:`Late` when it takes longer, wherever it waits or computes in Python.

    The system's alarm does it (``setitimer``), which Python hears in its main thread alone: in another one, or where
    there is no alarm, there is no limit. Compiled code is left to come to its end first. A timer that ran already goes
    on afterwards.
    """
    if seconds is None or not _can():
        yield
        return
    began = time.monotonic()
    handler = signal.signal(signal.SIGALRM, _late)
    before, again = signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
        if before:
            signal.setitimer(signal.ITIMER_REAL, max(before - (time.monotonic() - began), 1e-3), again)


def _can() -> bool:
    return hasattr(signal, "setitimer") and threading.current_thread() is threading.main_thread()


def _late(_number: int, _frame: FrameType | None) -> None:
    raise Late
