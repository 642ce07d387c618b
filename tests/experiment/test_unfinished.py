"""What a stopped run leaves is used by the same cells alone, and nobody else's is taken away."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock

from pettoolkit.errors import BadInput
from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pettoolkit.experiment.unfinished import STALE, UNFINISHED, Unfinished, remembers, resumable
from pettoolkit.federation import engine as engines
from pettoolkit.records import DpSpec
from pettoolkit.tracking.store import LOCK
from tests import small_cohort as small
from tests.arms.faults import VICTIM, FaultyGrid
from tests.experiment.test_faults import experiment
from tests.experiment.test_resume import Stopped, Stopping
from tests.test_end_to_end import plain

TEXT = """\
name: NAME
task: table-outcome
sites: {source: tables, path: DATA}
arms:
  - ARM
seeds: [0]
tracking: {dir: MLRUNS}
"""
PLAIN = "{arm: federated, rounds: 4}"
PRIVATE = "{arm: federated, strategy: fedsgd, rounds: 4}"
ENCRYPTED = "{arm: encrypted_aggregation, strategy: fedsgd, rounds: 4}"
LOCAL = "dp: {epsilon: 3, delta: 1.0e-3}\n"
SHARED = "dp: {epsilon: 3, delta: 1.0e-3, noise: shared, honest_sites: 3}\n"
FORMS = pytest.mark.parametrize(
    ("arm", "dp"), [(PLAIN, ""), (PRIVATE, LOCAL), (ENCRYPTED, SHARED)], ids=["plain", "private", "encrypted"]
)


@pytest.fixture
def results(tmp_path: Path, empty_database: Path) -> Path:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns")
    return tmp_path / "mlruns"


@pytest.fixture
def hosted_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Any], FaultyGrid]], None]:
    """Let the next runs' hospitals be on such a grid."""

    def use(make: Callable[[Any], FaultyGrid]) -> None:
        @contextmanager
        def opened(_engine: str, _factory: Any, hosted: Any, _workers: Any = None) -> Iterator[FaultyGrid]:
            yield make(hosted)

        monkeypatch.setattr(engines, "open_grid", opened)

    return use


def written(folder: Path, arm: str, dp: str = "", name: str = "small") -> Any:
    return load(experiment(folder, dp, TEXT.replace("ARM", arm).replace("NAME", name)))


def stopped(hosted_by: Any, config: Any, after: int = 2) -> None:
    hosted_by(lambda hosted: Stopping(after, hosted))
    with pytest.raises(Stopped):
        runner.run(config)


def asked(hosted_by: Any, config: Any, **options: Any) -> int:
    """Run; how often hospitals were asked for training."""
    grids: list[Stopping] = []

    def make(hosted: Any) -> Stopping:
        grids.append(Stopping(hosted=hosted))
        return grids[-1]

    hosted_by(make)
    (cell,) = runner.run(config, **options).cells
    assert cell.status == "done", cell.reason
    return grids[0].trained


def left(results: Path) -> list[Path]:
    return [path for path in (results / UNFINISHED).rglob("*") if path.is_file()]


@FORMS
def test_the_same_command_goes_on_and_leaves_nothing(
    arm: str, dp: str, tmp_path: Path, results: Path, hosted_by: Any
) -> None:
    config = written(tmp_path, arm, dp)
    stopped(hosted_by, config)
    assert {path.suffix for path in left(results)} >= {".journal"}
    whole = 8 if arm is ENCRYPTED else 4
    assert asked(hosted_by, config) == whole - 2
    assert left(results) == []


@FORMS
def test_force_starts_afresh(arm: str, dp: str, tmp_path: Path, results: Path, hosted_by: Any) -> None:
    config = written(tmp_path, arm, dp)
    stopped(hosted_by, config)
    assert asked(hosted_by, config, force=True) == (8 if arm is ENCRYPTED else 4)
    assert left(results) == []


@FORMS
def test_what_belongs_to_cells_that_changed_is_removed(
    arm: str, dp: str, tmp_path: Path, results: Path, hosted_by: Any
) -> None:
    stopped(hosted_by, written(tmp_path, arm, dp))
    assert left(results)
    asked(hosted_by, written(tmp_path, "{arm: local, epochs: 1}"))
    assert left(results) == []


def test_other_patients_get_no_answer_that_was_given_for_those_before(
    tmp_path: Path, results: Path, hosted_by: Any
) -> None:
    config = written(tmp_path, PRIVATE, LOCAL)
    stopped(hosted_by, config)
    small.rows("north", 150).to_csv(tmp_path / "data" / "north.csv", index=False)
    assert asked(hosted_by, config) == 4


def test_another_experiment_in_the_same_folder_keeps_its_own(tmp_path: Path, results: Path, hosted_by: Any) -> None:
    config = written(tmp_path, PRIVATE, LOCAL, name="first")
    stopped(hosted_by, config)
    asked(hosted_by, written(tmp_path, PRIVATE, LOCAL, name="second"), force=True)
    assert asked(hosted_by, config) == 2


def test_what_nobody_came_back_for_is_removed_after_a_month(tmp_path: Path, results: Path, hosted_by: Any) -> None:
    stopped(hosted_by, written(tmp_path, PRIVATE, LOCAL, name="first"))
    for path in [results / UNFINISHED, *(results / UNFINISHED).rglob("*")]:
        then = path.stat().st_mtime - STALE - 3600
        os.utime(path, (then, then))
    asked(hosted_by, written(tmp_path, PLAIN, name="second"))
    assert left(results) == []


def test_a_folder_that_another_run_works_in_is_left_alone(tmp_path: Path, results: Path, hosted_by: Any) -> None:
    config = written(tmp_path, PRIVATE, LOCAL)
    stopped(hosted_by, config)
    before = {path: path.read_bytes() for path in left(results)}
    with FileLock(results / LOCK), pytest.raises(BadInput, match="another run is writing to this folder"):
        runner.run(config, force=True)
    assert {path: path.read_bytes() for path in left(results)} == before


def test_an_encrypted_cell_that_failed_begins_anew(tmp_path: Path, results: Path, hosted_by: Any) -> None:
    config = written(tmp_path, ENCRYPTED)
    hosted_by(lambda hosted: FaultyGrid(hosted, "dies", after=2))
    (cell,) = runner.run(config).cells
    assert (cell.status, cell.reason) == ("failed", f"hospital {VICTIM}: its worker died")
    assert left(results) == []
    assert asked(hosted_by, config) == 10


def test_a_removal_that_was_cut_off_is_finished_by_the_next_run(tmp_path: Path) -> None:
    half = tmp_path / UNFINISHED / "removed-hospitals-1"
    half.mkdir(parents=True)
    (half / "some.ledger").touch()
    (tmp_path / UNFINISHED / "of-an-earlier-version.journal").touch()
    Unfinished(tmp_path, "small", []).begin(afresh=False)
    assert list((tmp_path / UNFINISHED).iterdir()) == []


def test_only_cells_with_rounds_and_nothing_of_their_own_to_lose_are_journalled(tmp_path: Path) -> None:
    private = DpSpec(3.0, 1e-3)
    assert [resumable(small.spec(arm)) for arm in ("federated", "encrypted_aggregation", "pooled")] == [1, 1, 0]
    assert not remembers(small.spec("federated"))
    assert remembers(small.spec("federated", dp=private))
    assert remembers(small.spec("encrypted_aggregation"))
    assert not remembers(small.spec("pooled", dp=private))
    assert Unfinished(tmp_path, "small", []).journal(small.spec("pooled"), "hash") is None


DYING = """\
import os, signal, sys
from pettoolkit import cli
from pettoolkit.federation.journal import Journal
keep, kept = Journal.keep, []
def dying(self, *answer):
    keep(self, *answer)
    kept.append(1)
    if len(kept) == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
Journal.keep = dying
sys.exit(cli.main(["run", sys.argv[1], "--engine", sys.argv[3], "--format", "json"]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["inline", pytest.param("ray", marks=pytest.mark.ray)])
@FORMS
def test_kill_9_in_a_round_and_the_same_command_gives_the_result_of_an_undisturbed_run(
    arm: str, dp: str, engine: str, tmp_path: Path, results: Path, empty_database: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(empty_database, other)
    written(tmp_path, arm, dp)
    file = str(tmp_path / "small.yaml")

    killed = program("-c", DYING, file, "13", engine)
    interrupted = left(results)
    resumed = program("-m", "pettoolkit.cli", "run", file, "--engine", engine, "--format", "json")
    undisturbed = program(
        "-m", "pettoolkit.cli", "run", file, "--engine", "inline", "--format", "json", "--set", f"tracking.dir={other}"
    )

    assert killed.returncode == -signal.SIGKILL
    assert any(path.suffix == ".journal" for path in interrupted)
    ours, theirs = (json.loads(done.stdout)["cells"][0] for done in (resumed, undisturbed))
    assert ours["status"] == theirs["status"] == "done"
    found, wanted = weights(results, ours["run_id"]), weights(other, theirs["run_id"])
    for name, array in wanted.items():
        exact = arm is not ENCRYPTED and engine == "inline"
        np.testing.assert_allclose(found[name], array, rtol=0, atol=0 if exact else 1e-3 if arm is ENCRYPTED else 1e-6)
    assert ours["metrics"].get("privacy/epsilon") == theirs["metrics"].get("privacy/epsilon")
    assert left(results) == []


def program(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=plain())


def weights(results: Path, run_id: str) -> dict[str, Any]:
    from safetensors.numpy import load_file

    (file,) = results.glob(f"artifacts/*/{run_id}/**/weights.safetensors")
    return load_file(file)
