"""The fault policy of an experiment: what is noted, what is refused, and that nothing finished is lost."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pettoolkit.errors import BadInput
from pettoolkit.experiment import runner
from pettoolkit.experiment.execute import execute
from pettoolkit.experiment.load import load
from pettoolkit.experiment.notes import DROPPED
from pettoolkit.experiment.unfinished import UNFINISHED
from pettoolkit.federation import engine as engines
from tests import small_cohort as small
from tests.arms.faults import VICTIM, FaultyGrid
from tests.experiment.test_runner import CONTRACT

DROP = {"on_failure": "drop", "min_sites": None, "round_timeout": 600.0}
EXPERIMENT = """\
name: small
task: table-outcome
sites: {source: tables, path: DATA}
arms:
  - {arm: local, epochs: 2}
  - {arm: federated, rounds: 2}
engine: inline
tracking: {dir: MLRUNS}
"""


def test_a_dropped_hospital_is_noted_counted_and_still_judged() -> None:
    grid = FaultyGrid(small.hospitals(), "nan", after=1, times=1)
    spec = replace(small.spec("federated", rounds=3), faults=DROP)

    result = execute(grid, spec, "hash").result

    assert result.notes[0].startswith(f"{DROPPED} {VICTIM} in round 2 (training): array")
    assert result.metrics["robustness/sites_dropped"] == 1
    assert set(result.per_site) == set(small.SITES)


@pytest.mark.parametrize("arm", ["local", "federated"])
def test_a_hospital_that_fails_when_models_are_judged_is_noted_and_in_no_figure(arm: str) -> None:
    trains = {"local": 1, "federated": 3}[arm]
    grid = FaultyGrid(small.hospitals(), "silent", after=trains)
    options = {"rounds": 3} if arm == "federated" else {"epochs": 2}

    result = execute(grid, replace(small.spec(arm, **options), faults=DROP), "hash").result

    assert f"{DROPPED} {VICTIM} in round 0 (evaluation): gave no answer" in result.notes
    assert set(result.per_site) == set(small.SITES) - {VICTIM}


def experiment(folder: Path, more: str, text: str = EXPERIMENT) -> Path:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    (data / "contract.yaml").write_text(CONTRACT)
    for site in small.SITES:
        small.rows(site, 120).to_csv(data / f"{site}.csv", index=False)
    path = folder / "small.yaml"
    path.write_text(text.replace("DATA", str(data)).replace("MLRUNS", str(folder / "mlruns")) + more)
    return path


@pytest.mark.parametrize(
    ("arm", "more", "words"),
    [
        ("{arm: encrypted_aggregation}", "", "arm encrypted_aggregation: the hospitals decrypt a sum only if each"),
        ("{arm: encrypted_statistics}", "", "arm encrypted_statistics: the hospitals decrypt a sum only if each"),
        ("{arm: synthetic, generator: marginals, scope: secure_sum}", "", "arm synthetic: the hospitals decrypt a sum"),
        ("{arm: federated}", "dp: {epsilon: 3}\n", "arm federated: the ledger of a hospital that is dropped"),
    ],
)
def test_dropping_is_refused_where_it_would_break_a_promise(tmp_path: Path, arm: str, more: str, words: str) -> None:
    text = EXPERIMENT.replace("  - {arm: local, epochs: 2}\n  - {arm: federated, rounds: 2}\n", f"  - {arm}\n")
    path = experiment(tmp_path, f"faults: {{on_failure: drop}}\n{more}", text)
    with pytest.raises(BadInput, match=f"small.yaml:5: .*faults.on_failure: drop is not possible with {words}"):
        load(path)


def test_a_failed_cell_takes_no_finished_one_with_it(
    tmp_path: Path, empty_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mlruns").mkdir()
    shutil.copy(empty_database, tmp_path / "mlruns")
    config = load(experiment(tmp_path, ""))
    real = engines.open_grid

    @contextmanager
    def faulty(engine: str, factory: Any, hosted: Any, workers: Any = None) -> Iterator[FaultyGrid]:
        yield FaultyGrid(hosted, "dies", after=2)  # its local model and its predictions are fine

    monkeypatch.setattr(engines, "open_grid", faulty)
    first = runner.run(config)
    stopped = list((tmp_path / "mlruns" / UNFINISHED).rglob("*.journal"))
    monkeypatch.setattr(engines, "open_grid", real)
    second = runner.run(config)
    left = list((tmp_path / "mlruns" / UNFINISHED).rglob("*"))

    assert (len(stopped), left) == (1, [])
    assert [cell.status for cell in first.cells] == ["done", "failed"]
    assert first.cells[1].reason == f"hospital {VICTIM}: its worker died"
    assert [cell.status for cell in second.cells] == ["skipped", "done"]
