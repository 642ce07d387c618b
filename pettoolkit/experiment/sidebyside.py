"""Cells side by side, each in one of several processes with all hospitals in it (``engine: inline``).

A process here is a copy of this one's making: it gets the hospitals once, then one cell after another, and gives back
what the cell came to. Results are logged by the process that started them, so that one writes.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pettoolkit.records import RunSpec

if TYPE_CHECKING:
    from pettoolkit.experiment.execute import Executed
    from pettoolkit.hospital.site import Site

DIED = "the process in which it ran died (killed, or out of memory)"


@dataclass(frozen=True)
class Job:
    """A cell to be run, its hash, and where its answers are written down."""

    spec: RunSpec
    name: str
    journal: Path | None


def side_by_side(sites: Mapping[str, Site], jobs: Sequence[Job], at_once: int) -> Iterator[tuple[Job, Executed | str]]:
    """Run cells in ``at_once`` processes; give each with its outcome, or with what went wrong, as soon as it is there.

    Parameters
    ----------
    sites
        The hospitals; each process has its own copy, with what they keep in files in common.
    """
    todo = deque(jobs)
    busy: dict[Any, tuple[_Worker, Job]] = {}
    try:
        for _ in range(min(at_once, len(jobs))):
            worker = _Worker(sites)
            busy[worker.line] = (worker, worker.give(todo.popleft()))
        while busy:
            for line in wait(list(busy)):
                worker, job = busy.pop(line)
                outcome = worker.outcome()
                if outcome is None:
                    worker.end()
                if todo:
                    worker = _Worker(sites) if outcome is None else worker
                    busy[worker.line] = (worker, worker.give(todo.popleft()))
                elif outcome is not None:
                    worker.end()
                yield job, DIED if outcome is None else outcome
    finally:
        for worker, _ in busy.values():
            worker.end()


class _Worker:
    """A process and the line to it."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        # A fresh interpreter: a fork would share this one's locks, threads and connections.
        context = multiprocessing.get_context("spawn")
        self.line, far = context.Pipe()
        self._process = context.Process(target=_work, args=(far, dict(sites)), daemon=True)
        self._process.start()
        far.close()

    def give(self, job: Job) -> Job:
        """Hand over a cell."""
        self.line.send(job)
        return job

    def outcome(self) -> Executed | str | None:
        """What came of the cell; None if the process is gone."""
        try:
            found: Executed | str = self.line.recv()
        except (EOFError, OSError):
            return None
        return found

    def end(self) -> None:
        """End the process, whatever it does."""
        self.line.close()
        self._process.kill()
        self._process.join()


def _work(line: Connection[Any, Any], sites: Mapping[str, Site]) -> None:
    """What a process does: cells, until nobody gives any."""
    import torch

    from pettoolkit.arms.app import build_app
    from pettoolkit.experiment.outcome import carried_out
    from pettoolkit.federation.engine import open_grid

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is asked, and ends it
    _end_with_parent()
    torch.set_num_threads(1)
    with open_grid("inline", build_app, sites) as grid:
        while True:
            try:
                job: Job = line.recv()
            except EOFError:
                return
            line.send(carried_out(grid, job.spec, job.name, job.journal))


def _end_with_parent() -> None:
    """Let no process outlive the one that started it, though that be killed."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
