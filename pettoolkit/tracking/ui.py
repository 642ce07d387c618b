"""MLflow's page on this machine: started, waited for, linked to, and ended with Ctrl-C."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import urlencode

from pettoolkit.errors import BadInput, EngineFailed
from pettoolkit.tracking import views
from pettoolkit.tracking.artifacts import COMPARISON, FOLDER
from pettoolkit.tracking.database import DATABASE, QUIET, explained, mlflow_client

HOST = "127.0.0.1"
PORT = 5000
START_SECONDS = 120
"""MLflow answers within 5-10 s on an idle machine."""
_LINKS = 10
_REPORTS = "tags.`pet.kind` = 'report' and attributes.status = 'FINISHED'"
TABLE, CHART = "compareRunsMode=TABLE", "compareRunsMode=CHART"
"""How MLflow's page shows the runs."""


def serve(
    tracking_dir: Path,
    port: int | None = None,
    experiment: str | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the record of a folder until Ctrl-C.

    Parameters
    ----------
    tracking_dir
        The experiment's ``tracking.dir``.
    port
        Default 5000, or a free one if that is taken.
    experiment
        The one to link to; default the last ten that were written to.
    say
        Takes the lines for the person.

    Raises
    ------
    BadInput
        If there is no record in the folder, no such experiment, or the port is taken.
    EngineFailed
        If MLflow does not start.
    """
    directory = Path(tracking_dir).absolute()
    paths = links(directory, experiment)
    pages = report_links(directory, list(paths))
    with _told_to_stop() as told, running(directory, port) as server:
        say("MLflow is running. Open:")
        for name, path in paths.items():
            say(f"  {name}: {server.url}{path}")
            if TABLE in path:
                say(f"  {name}, as charts: {server.url}{path.replace(TABLE, CHART)}")
            if name in pages:
                say(f"  {name}, in words: {server.url}{pages[name]}")
        say("Ctrl-C ends it.")
        while not told.is_set():
            try:
                code = server.process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                continue
            raise EngineFailed(f"MLflow ended by itself with exit code {code} (start it again)")
    say("MLflow has ended.")


def link(tracking_dir: Path, experiment: str, port: int = PORT) -> str:
    """Address of an experiment's comparison while :func:`serve` runs on ``port``."""
    return f"http://{HOST}:{port}{links(Path(tracking_dir).absolute(), experiment)[experiment]}"


def links(directory: Path, experiment: str | None = None) -> dict[str, str]:
    """Path and query of the page of each experiment, the last written first.

    Raises
    ------
    BadInput
        If the folder holds no record, or not of that experiment.
    """
    if not (directory / DATABASE).exists():
        raise BadInput(f"{directory}: nothing is recorded here (run an experiment first, or name its tracking.dir)")
    with explained(directory):
        found = mlflow_client(directory, f"sqlite:///{directory / DATABASE}").search_experiments()
    begun = sorted((e for e in found if views.BEGUN in e.tags), key=lambda e: int(e.tags[views.BEGUN]), reverse=True)
    ours = {e.name: _page(e.experiment_id, views.VIEW_TAG in e.tags) for e in begun}
    if experiment is None:
        return dict(list(ours.items())[:_LINKS]) or {"all experiments": "/#/experiments"}
    if experiment not in ours:
        raise BadInput(f"{directory}: no experiment {experiment!r} here (there are: {', '.join(ours) or 'none'})")
    return {experiment: ours[experiment]}


def report_links(directory: Path, experiments: Sequence[str]) -> dict[str, str]:
    """Path of the comparison report of each of the experiments that has one, opened inline."""
    client = mlflow_client(directory, f"sqlite:///{directory / DATABASE}")
    found = {}
    with explained(directory):
        for name in experiments:
            known = client.get_experiment_by_name(name)
            runs = client.search_runs([known.experiment_id], _REPORTS, max_results=1) if known else []
            for run in runs:
                where = f"/#/experiments/{known.experiment_id}/runs/{run.info.run_id}/artifacts/{COMPARISON}"
                found[name] = f"{where}?workflowType=machine_learning"
    return found


@dataclass(frozen=True)
class Server:
    """MLflow's server, answering at ``url``."""

    url: str
    process: subprocess.Popen[bytes]


@contextmanager
def running(directory: Path, port: int | None = None) -> Iterator[Server]:
    """Run MLflow's server on loopback (2 processes); entered once it answers, ended on leaving."""
    port = _port(port)
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(
            _command(directory, port),
            env={**os.environ, **QUIET, "MLFLOW_LOGGING_LEVEL": "ERROR", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C reaches us alone, and we end all of it
        )
        try:
            _wait(server, f"http://{HOST}:{port}/health", log)
            yield Server(f"http://{HOST}:{port}", server)
        finally:
            _end(server)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """Wait for a program's end; in steps, since a signal that comes just before a wait without end is lost in it."""
    while True:
        try:
            return process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            continue


def _page(experiment_id: str, with_view: bool) -> str:
    query = {"workflowType": "machine_learning"}
    if with_view and views.view_is_known():
        query |= {"viewStateShareKey": views.VIEW_ID, "compareRunsMode": "TABLE"}
    return f"/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def _command(directory: Path, port: int) -> list[str]:
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", f"sqlite:///{directory / DATABASE}"),
        *("--default-artifact-root", (directory / FOLDER).as_uri()),
        *("--host", HOST, "--port", str(port), "--workers", "1"),
    ]


def _port(port: int | None) -> int:
    if port is None:
        return PORT if _is_free(PORT) else _free_port()
    if not _is_free(port):
        raise BadInput(f"--port {port}: taken by another program on this machine (choose another, e.g. {_free_port()})")
    return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def _wait(server: subprocess.Popen[bytes], health: str, log: IO[str]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            log.seek(0)
            last = [line for line in log.read().splitlines() if line.strip()][-1:]
            raise EngineFailed(f"MLflow did not start: {''.join(last) or f'exit code {server.returncode}'}")
        try:
            with urllib.request.urlopen(health, timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.2)  # not listening yet
    raise EngineFailed(f"MLflow did not answer within {START_SECONDS} s (is the machine overloaded?)")


def _end(server: subprocess.Popen[bytes]) -> None:
    """End the server and the worker it started."""
    for how, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(server.pid, how)
            server.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    server.wait()


@contextmanager
def _told_to_stop() -> Iterator[threading.Event]:
    """Set the event at Ctrl-C, SIGTERM, or when the terminal is closed, so that no server is left behind.

    An event and no exception: one that is raised in a destructor or a callback would be lost.
    """
    told = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *_: told.set()) for number in numbers}
    try:
        yield told
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
