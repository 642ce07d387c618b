"""What ``experiments/quickstart.yaml`` costs a new user: seconds, CPU seconds and memory of all its processes.

    python benchmarks/quickstart.py [--json FILE]

The command runs in an empty folder with two Ray workers. Memory is the sum over its processes of what each holds
alone plus its share of what is shared (Linux's PSS), the largest of readings ten times a second; Ray's store counts
where it is touched. CPU seconds do not depend on who else uses the machine, seconds do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
EXPERIMENT = ROOT / "experiments" / "quickstart.yaml"
EVERY = 0.1


@dataclass(frozen=True)
class Measured:
    """One run of a command; ``output`` is what it printed."""

    code: int
    seconds: float
    cpu_seconds: float
    rss_mb: float
    output: str


def measure(
    command: Sequence[str], folder: Path, timeout: float, environment: Mapping[str, str] | None = None
) -> Measured:
    """Run a command and watch it and all of its children.

    Raises
    ------
    subprocess.TimeoutExpired
        If it does not end in time; its children are ended too.
    """
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        started = psutil.Popen(command, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT)
        cpu: dict[tuple[int, float], float] = {}
        most = 0.0
        while started.poll() is None:
            family = _family(started)
            if time.monotonic() - began > timeout:
                for process in reversed(family):
                    process.kill()
                raise subprocess.TimeoutExpired(command, timeout)
            most = max(most, sum(_observe(process, cpu) for process in family))
            time.sleep(EVERY)
        output.seek(0)
        said = output.read().decode()
    return Measured(started.returncode, time.monotonic() - began, sum(cpu.values()), most, said)


def quickstart(folder: Path, timeout: float) -> Measured:
    """Run the quickstart with an empty record in ``folder``."""
    here = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "pettoolkit.cli", "run", str(EXPERIMENT), "--workers", "2"]
    return measure(command, folder, timeout, here)


def _family(started: psutil.Process) -> list[psutil.Process]:
    try:
        return [started, *started.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _observe(process: psutil.Process, cpu: dict[tuple[int, float], float]) -> float:
    """Note a process's CPU seconds so far, and give its memory in MB."""
    try:
        times = process.cpu_times()
        cpu[(process.pid, process.create_time())] = times.user + times.system
        return float(process.memory_full_info().pss) / 2**20
    except psutil.Error:  # it has just ended
        return 0.0


def main() -> None:
    """Run it and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = quickstart(Path(folder), timeout=1800)
    if found.code:
        sys.exit(found.output)
    rows = [
        {
            "benchmark": "quickstart",
            "case": "two workers",
            "variant": "ours",
            "metric": metric,
            "value": value,
            "unit": unit,
        }
        for metric, value, unit in (
            ("seconds", round(found.seconds, 1), "s"),
            ("cpu_seconds", round(found.cpu_seconds, 1), "s"),
            ("rss_mb", round(found.rss_mb), "MB"),
        )
    ]
    for row in rows:
        print(f"{row['benchmark']:12} {row['case']:12} {row['metric']:12} {row['value']:>8} {row['unit']}")
    if asked.json:
        asked.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
