"""What a SuperNode needs to outlive a busy machine; :mod:`pettoolkit.federation.flower` puts it in its place."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flwr.app import Message

T = TypeVar("T")
_log = logging.getLogger("flwr")


def survived(call: Callable[[], T], what: str, instead: T) -> T:
    """Result of a call to the SuperLink, or ``instead`` where it fails; Flower's node repeats it a little later."""
    try:
        return call()
    except Exception as error:
        _log.error("%s, it is tried again: %s", what, error)
        return instead


class Unanswered(Exception):
    """No process works on the message, and none left an answer."""


class Listening:
    """A SuperNode's state that does not wait for an answer that can't come."""

    def __init__(self, state: Any, keep: Callable[[], None]) -> None:
        self._state = state
        self._keep = keep

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, **asked: Any) -> Sequence[Message]:
        """As Flower's.

        Raises
        ------
        Unanswered
            If there is nothing and nobody works on it.
        """
        self._keep()
        # Looked at first: a process leaves its answer and ends then.
        working = self._state.get_tasks(statuses=["pending", "starting", "running"])
        found: Sequence[Message] = self._state.get_messages_legacy(**asked)
        if not found and not working:
            raise Unanswered
        return found


class Worker:
    """Flower's process that starts one for each message or run; Flower starts it once and does not look after it.

    Parameters
    ----------
    program
        What is started in place of the first word of Flower's command.
    """

    PAUSE = 10.0
    """Seconds from one start to the next."""

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._command: list[str] = []
        self._options: dict[str, Any] = {}
        self.running: subprocess.Popen[bytes] | None = None
        self._since = 0.0

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """Start it; as ``subprocess.Popen``."""
        self._command, self._options, self._since = command, options, time.monotonic()
        self.running = subprocess.Popen([*self._program, *command[1:]], **options)
        return self.running

    def keep(self) -> None:
        """Start it again if it has ended."""
        if self.running is None or self.running.poll() is None or time.monotonic() < self._since + self.PAUSE:
            return
        _log.error("the process that starts the app has ended, and is started again")
        self.start(self._command, **self._options)

    def watched(self) -> None:
        """Keep it from now on, by a thread that ends with this process."""

        def watch() -> None:
            while True:
                time.sleep(self.PAUSE)
                self.keep()

        threading.Thread(target=watch, daemon=True, name="keeps the worker").start()
