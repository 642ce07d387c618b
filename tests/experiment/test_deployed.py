"""Cells of real hospitals: known by name and contract, recorded from figures without rows, in MLflow like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pettoolkit.deployment import submit
from pettoolkit.deployment.coordinator import Deployed, carry_out
from pettoolkit.deployment.folders import Coordinator
from pettoolkit.errors import BadInput
from pettoolkit.experiment import deployed, runner
from pettoolkit.experiment.attackmodel import _salted
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.load import load
from pettoolkit.records import Models, NotMeasured, RunResult, RunSpec, from_json, to_json
from pettoolkit.tracking.database import DATABASE
from pettoolkit.tracking.store import Store
from tests.deployment import parties

TEXT = """
name: deployed
task: table-outcome
engine: flower
arms:
  - {arm: federated, rounds: 2}
  - {arm: synthetic, generator: marginals, epochs: 3}
  - {arm: pooled, epochs: 2}
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return parties.make(tmp_path)


@pytest.fixture
def config(made: Path, tmp_path: Path, empty_database: Path) -> ExperimentConfig:
    results = tmp_path / "mlruns"
    results.mkdir()
    shutil.copy(empty_database, results / DATABASE)
    file = tmp_path / "deployed.yaml"
    file.write_text(f"{TEXT}deployment: {made / 'coordinator'}\ntracking: {{dir: {results}}}\n")
    return load(str(file), ())


@pytest.fixture
def without_processes(made: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunSpec]:
    """Hospitals answer from their folders in this process; what is asked for is noted."""
    asked: list[RunSpec] = []

    def run(coordinator: Coordinator, spec: RunSpec) -> Deployed:
        asked.append(spec)
        found = carry_out(parties.grid(made), spec)
        return from_json(Deployed, to_json(found))  # as it travels through the coordinator's folder

    monkeypatch.setattr(submit, "run", run)
    return asked


def test_cells_land_in_mlflow_and_are_finished(config: ExperimentConfig, without_processes: list[RunSpec]) -> None:
    found = runner.run(config)

    by_arm = {cell.spec.arm: cell for cell in found.cells}
    assert [by_arm[arm].status for arm in ("federated", "synthetic", "pooled")] == ["done", "done", "failed"]
    assert "not in its policy" in by_arm["pooled"].reason
    result = by_arm["federated"].result
    assert isinstance(result, RunResult)
    assert result == Store(Path(config.tracking.dir)).load_result(by_arm["federated"].run_id or "")
    assert result.metrics["utility/auroc"] == pytest.approx(
        sum(result.metrics[f"site/{name}/auroc"] for name in parties.NAMES) / 3
    )
    assert result.metrics["robustness/auroc_worst_site"] == min(
        result.metrics[f"site/{name}/auroc"] for name in parties.NAMES
    )
    assert isinstance(result.privacy.measured, NotMeasured)
    assert result.subgroups == {}
    assert result.intervals == {}

    again = runner.run(config)

    assert [c.status for c in again.cells] == ["skipped", "skipped", "failed"]
    assert [spec.arm for spec in without_processes] == ["federated", "synthetic", "pooled", "pooled"]
    assert runner.show(config).cells[0].result == result


def test_another_deployment_is_another_cell(config: ExperimentConfig, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = config.model_copy(update={"deployment": str(parties.make(tmp_path / "other") / "coordinator")})

    first, second = runner.prepare(config), runner.prepare(other)

    assert not set(first.current) & set(second.current)
    assert first.cells[0][0] == second.cells[0][0]


def test_a_hospitals_folder_shows_the_same_cells(config: ExperimentConfig, made: Path) -> None:
    mine = config.model_copy(update={"deployment": str(made / "hospital-1")})

    assert [s.run_id for s, _ in runner.prepare(mine).cells] == [s.run_id for s, _ in runner.prepare(config).cells]


def test_a_deployment_is_needed(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("name: x\nengine: flower\narms: [{arm: federated}]\n")

    with pytest.raises(BadInput, match="deployment: is missing"):
        load(str(file), ())


def test_a_name_that_is_not_deployed_is_refused(config: ExperimentConfig) -> None:
    sites = config.sites.model_copy(update={"include": ("hospital-9",)})

    with pytest.raises(BadInput, match="hospital-9 is not deployed"):
        runner.prepare(config.model_copy(update={"sites": sites}))


def test_keys_of_a_simulation_are_refused(config: ExperimentConfig, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="in their own folders"):
        runner.run(config, keys=tmp_path)


def test_models_of_their_own_count_at_home_and_foreign_ones_elsewhere(made: Path) -> None:
    spec = parties.spec(made, "federated", rounds=1)
    figures = {
        "hospital-1": {"hospital-1": {"auroc": 0.9}, "hospital-3": {"auroc": 0.5}},
        "hospital-2": {"hospital-2": {"auroc": 0.7}, "hospital-3": {"auroc": 0.6}},
    }

    each = {site: deployed._at(figures, site) for site in parties.NAMES}
    found = deployed.metrics_of(
        RunSpec(**{**vars(spec), "sites": ("hospital-1", "hospital-2"), "unseen": ("hospital-3",)}), each
    )

    assert found["utility/auroc"] == pytest.approx(0.8)
    assert found["robustness/auroc_unseen_site"] == pytest.approx(0.55)
    assert Models.SHARED not in figures


def test_what_a_hospital_holds_back_has_its_reason(made: Path) -> None:
    spec = parties.spec(made, "federated", rounds=1)
    found = carry_out(parties.grid(made), spec)
    silent = {Models.SHARED: {**found.figures[Models.SHARED], "hospital-2": {}}}

    result = deployed.result_of(spec, "hash", Deployed(found.outcome, silent))

    assert result.per_site["hospital-2"]["auroc"] == deployed.HELD_BACK
    assert result.metrics["robustness/sites_undefined"] == 1
    assert any(note.startswith("hospital-2: no figures") for note in result.notes)
    assert _salted(result)  # `attack --model` must know that the split is not the open one
