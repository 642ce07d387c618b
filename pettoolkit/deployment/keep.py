"""Keeps a hospital's process going: one that ends by itself is started again, as long as the coordinator lets it in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

PARENT = "PETTOOLKIT_KEPT_BY"
"""Environment variable with the process with which a hospital's process ends."""

LET_IN = "PETTOOLKIT_LET_IN"
"""Environment variable with the file that a hospital's process makes as soon as the SuperLink has let it in."""

REFUSED = 90.0
"""Seconds, from the first end of one that was not let in, for which it is started again: a SuperLink takes one that
died for alive for half a minute."""

PAUSE = 5.0
"""Seconds from an end to the next start."""

NEVER_IN = 1
"""Exit code where the process that is given up ended with none of its own: Flower's ends with 0 after a 401."""

WHY = "is its key registered, its clock right to five minutes, its software whole? The lines above may say"
"""What to look at where one is not let in; a SuperLink refuses what was signed by a clock that is far off."""

MISUSED = 2
"""Exit code where a setting is wrong: starting again does not help."""


def keep(
    argv: Sequence[str],
    environment: Mapping[str, str],
    let_in: Path,
    *,
    refused: float = REFUSED,
    pause: float = PAUSE,
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> int:
    """Run a process until it is stopped by a signal to this one, or was not let in for ``refused`` seconds.

    Parameters
    ----------
    let_in
        File that the process makes when it is let in (:data:`LET_IN`); Flower's exit codes do not tell.

    Returns
    -------
    int
        0 if it was stopped, else the exit code with which it was given up (never 0).
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
        own = {**environment, PARENT: str(os.getpid()), LET_IN: str(let_in)}
        since: float | None = None
        while True:
            let_in.unlink(missing_ok=True)
            # In a group of its own: Ctrl-C in a terminal would reach it twice.
            running[:] = [subprocess.Popen(argv, env=own, process_group=0)]
            if stopped:  # between the last look and this start
                running[0].terminate()
            code = running[0].wait()
            if stopped:
                return 0
            now = time.monotonic()
            if let_in.exists():
                since = None
            elif since is None:
                since = now
            if code == MISUSED:
                return code
            if since is not None and now >= since + refused:
                say(f"the hospital's process was not let in and is given up (exit code {code}): {WHY}")
                return code if code > 0 else NEVER_IN
            say(f"the hospital's process ended (exit code {code}); it is started again in {pause:.0f} s")
            until = now + pause
            while not stopped and time.monotonic() < until:
                time.sleep(min(0.2, pause))
            if stopped:
                return 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
