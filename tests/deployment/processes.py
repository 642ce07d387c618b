"""Real processes of a deployment on loopback: Flower's SuperLink and SuperNodes, started, stopped and killed."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
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
        """Start a party's process as `pettoolkit deploy start` does; its output goes to its logs."""
        party = party_of(self.made / name)
        argv = [str(Path(sys.executable).parent / "pettoolkit"), "deploy", "start", str(party.folder)]
        self._running[name] = popen(party, argv, party.logs / "process.log")

    def node(self, hospital: str) -> psutil.Process:
        """A hospital's SuperNode; its parent keeps it going."""
        return psutil.Process(self._running[hospital].pid).children()[0]

    def times_let_in(self, hospital: str) -> int:
        """How often the SuperLink has let a hospital in."""
        return (self.made / hospital / "logs" / "process.log").read_bytes().count(LET_IN)

    def freeze(self, hospital: str) -> None:
        """Stop its SuperNode for now, and let the processes that it started go on."""
        self.node(hospital).suspend()

    def strike(self, hospital: str) -> None:
        """Kill -9 a hospital's SuperNode and all that it started; what keeps it going is left to do so."""
        node = self.node(hospital)
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def strike_worker(self, name: str) -> None:
        """Kill -9 the process by which Flower starts others, of a hospital or the coordinator."""
        main = psutil.Process(self._running[name].pid) if name == "coordinator" else self.node(name)
        workers = [
            child for child in main.children() if any("federation.superexec" in word for word in child.cmdline())
        ]
        assert workers, f"{name} has no worker"
        for worker in workers:
            worker.kill()

    def kill(self, name: str) -> None:
        """Kill -9, children included."""
        leader = self._running.pop(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(leader.pid).children(recursive=True)
            leader.kill()
            for process in children:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
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
    """The coordinator and all hospitals of a deployment, registered and let in."""
    processes = Processes(made)
    try:
        coordinator = Coordinator(made / "coordinator")
        processes.start("coordinator")
        until(lambda: healthy(coordinator), "the SuperLink answers")
        start.register(coordinator)
        for name in coordinator.federation.hospitals:
            processes.start(name)
        for name in coordinator.federation.hospitals:
            until(lambda name=name: processes.times_let_in(name), f"{name} is let in")  # type: ignore[misc]
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
