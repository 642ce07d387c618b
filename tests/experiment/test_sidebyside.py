"""Cells side by side come to what they come to one after the other; a process that dies costs its own cell."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pettoolkit.experiment import runner
from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.execute import Executed
from pettoolkit.experiment.load import load
from pettoolkit.experiment.sidebyside import DIED, Job, side_by_side
from pettoolkit.hospital.site import Site
from pettoolkit.records import RunSpec
from tests import small_cohort as small
from tests.arms.faults import PATIENT, BrokenSite
from tests.experiment.test_faults import experiment
from tests.test_end_to_end import plain

TEXT = """\
name: small
task: table-outcome
sites: {source: tables, path: DATA}
arms:
  - {arm: pooled, epochs: 2}
  - {arm: federated, rounds: 3}
  - {arm: encrypted_aggregation, rounds: 2}
  - {arm: synthetic, generator: marginals, epochs: 2}
seeds: [0, 1]
tracking: {dir: MLRUNS}
"""


def jobs(*arms: str) -> list[Job]:
    return [Job(small.spec(arm), f"{arm}-{i}", None) for i, arm in enumerate(arms)]


@pytest.mark.slow
def test_they_come_to_what_they_come_to_one_after_the_other(tmp_path: Path, empty_database: Path) -> None:
    found = []
    for workers in (1, 3):
        folder = tmp_path / str(workers)
        (folder / "mlruns").mkdir(parents=True)
        shutil.copy(empty_database, folder / "mlruns")
        config = load(experiment(folder, "", TEXT))
        found.append(runner.run(config, workers=workers, engine="inline").cells)
    assert [cell.spec.run_id for cell in found[0]] == [cell.spec.run_id for cell in found[1]]
    for alone, beside in zip(*found, strict=True):
        assert (alone.status, beside.status) == ("done", "done")
        exact = not alone.spec.arm.startswith("encrypted")
        assert judged(beside) == (judged(alone) if exact else pytest.approx(judged(alone), abs=0.002))
        assert beside.result is not None
        assert alone.result is not None
        assert beside.result.exposure.kinds_out() == alone.result.exposure.kinds_out()


def judged(cell: CellReport) -> dict[str, float]:
    assert cell.result is not None
    return {n: v for n, v in cell.result.metrics.items() if n.split("/")[0] in ("utility", "robustness")}


class Mortal(Site):
    """A hospital whose process ends when it trains a run of seed 1."""

    def part(self, spec: RunSpec, part: Any) -> Any:
        """Die, or answer."""
        return os._exit(1) if spec.seed == 1 else super().part(spec, part)


@pytest.mark.slow
def test_a_process_that_dies_costs_its_own_cell_and_an_error_leaves_without_values() -> None:
    sites = small.hospitals()
    dying = {**sites, "north": Mortal("north", small.rows("north"), small.CONTRACT)}
    broken = {**sites, "north": BrokenSite("north", small.rows("north"), small.CONTRACT)}
    three = [Job(small.spec("federated", seed=seed), str(seed), None) for seed in (0, 1, 2)]

    died = {job.name: found for job, found in side_by_side(dying, three, 1)}
    failed = {job.name: found for job, found in side_by_side(broken, three[:1], 2)}

    assert died["1"] == DIED
    assert all(isinstance(died[name], Executed) for name in ("0", "2"))
    assert failed == {"0": "hospital north: ValueError"}
    assert PATIENT not in str(failed)


ENDLESS = """\
import sys
from tests import small_cohort as small
from tests.experiment.test_sidebyside import jobs
from pettoolkit.experiment.sidebyside import Job, side_by_side
if __name__ == "__main__":
    endless = Job(small.spec("federated", rounds=10**6), "endless", None)
    for job, _ in side_by_side(small.hospitals(), [*jobs("local"), endless], 2):
        print(job.name, flush=True)
"""


@pytest.mark.slow
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = [sys.executable, str(tmp_path / "endless.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=plain()) as run:
        assert run.stdout is not None
        assert run.stdout.readline() == "local-0\n"  # the other one runs by now, or starts
        below = psutil.Process(run.pid).children(recursive=True)
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
    assert below
    _, alive = psutil.wait_procs(below, timeout=60)
    assert alive == []
