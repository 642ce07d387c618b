"""Real processes of a deployment on loopback: Flower's SuperLink and SuperNodes, started, stopped and killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from pettoolkit.deployment import start
from pettoolkit.deployment.folders import Coordinator, HospitalFolder, party_of
from pettoolkit.deployment.health import healthy

PATIENCE = 240.0
"""Seconds in which anything here must have happened."""


LET_IN = b"SuperNode ID"
"""What a node's log says when the SuperLink has let it in."""


class Processes:
    """Those of one deployment, by the name of the party."""

    def __init__(self, made: Path) -> None:
        self.made = made
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str) -> None:
        """Start a party's process; its output goes to its logs."""
        party = party_of(self.made / name)
        self._running[name] = popen(party, start.command(party), party.logs / "process.log")

    def restart(self, name: str) -> None:
        """Start a hospital's process that was killed, again and again until it is let in, as a service manager does.

        The SuperLink takes a killed node for alive for half a minute, and does not let it in twice.
        """
        log = self.made / name / "logs" / "process.log"
        before = log.read_bytes().count(LET_IN)
        end = time.monotonic() + PATIENCE
        while log.read_bytes().count(LET_IN) == before:
            assert time.monotonic() < end, f"{name} was not let in again"
            if name not in self._running or self._running[name].poll() is not None:
                self.start(name)
            time.sleep(0.5)

    def freeze(self, name: str) -> None:
        """Stop a party's own process for now, and let those that it started go on."""
        os.kill(self._running[name].pid, signal.SIGSTOP)

    def kill(self, name: str) -> None:
        """Kill -9, children included."""
        leader = self._running.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(leader.pid).children(recursive=True):
                process.kill()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader.pid, signal.SIGKILL)
        leader.wait()

    def close(self) -> None:
        """End all."""
        for name in list(self._running):
            self.kill(name)


def popen(party: Coordinator | HospitalFolder, argv: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start a process of a party."""
    with log.open("ab") as file:
        return subprocess.Popen(
            argv, env=start.environment(party), stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )


@contextlib.contextmanager
def running(made: Path) -> Iterator[Processes]:
    """The coordinator and all hospitals of a deployment, registered."""
    processes = Processes(made)
    try:
        coordinator = Coordinator(made / "coordinator")
        processes.start("coordinator")
        until(lambda: healthy(coordinator), "the SuperLink answers")
        start.register(coordinator)
        for name in coordinator.federation.hospitals:
            processes.start(name)
        yield processes
    finally:
        processes.close()


def until(done: Callable[[], object], what: str) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < end, f"waited {PATIENCE:.0f} s in vain: {what}"
        time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
