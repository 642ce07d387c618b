"""Keeps a hospital's process going: one that ends by itself is started again, as long as the coordinator lets it in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

PARENT = "PETTOOLKIT_KEPT_BY"
"""Environment variable with the process with which a hospital's process ends."""

REFUSED = 90.0
"""Seconds for which one tries that is not let in: a SuperLink takes one that died for alive for half a minute."""

PAUSE = 5.0
"""Seconds from an end to the next start."""

NEVER_IN = 1
"""Exit code of a SuperNode that could not start, or was not let in; one that was let in never ends with it."""

MISUSED = 2
"""Exit code where a setting is wrong: starting again does not help."""


def keep(
    argv: Sequence[str],
    environment: Mapping[str, str],
    *,
    refused: float = REFUSED,
    pause: float = PAUSE,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> int:
    """Run a process until it is stopped by a signal to this one, or was refused for ``refused`` seconds.

    Returns
    -------
    int
        0 if it was stopped, else the exit code with which it was given up.
    """
    stopped = False
    running: list[subprocess.Popen[bytes]] = []

    def stop(number: int, _: object) -> None:
        nonlocal stopped
        stopped = True
        for process in running:
            process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        since = time.monotonic()
        while True:
            # In a group of its own: Ctrl-C in a terminal would reach it twice.
            running[:] = [subprocess.Popen(argv, env={**environment, PARENT: str(os.getpid())}, process_group=0)]
            if stopped:  # between the last look and this start
                running[0].terminate()
            code = running[0].wait()
            if stopped:
                return 0
            now = time.monotonic()
            if code not in (NEVER_IN, MISUSED):
                since = now
            if code == MISUSED or now >= since + refused:
                return code
            say(f"the hospital's process ended (exit code {code}); it is started again in {pause:.0f} s")
            until = now + pause
            while not stopped and time.monotonic() < until:
                time.sleep(min(0.2, pause))
            if stopped:
                return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
