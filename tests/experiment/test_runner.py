"""The runner: finished cells are skipped, changed ones run again, and nothing finished is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from pettoolkit.errors import BadInput
from pettoolkit.experiment import execute, runner
from pettoolkit.experiment.cells import Comparison
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.load import load
from pettoolkit.tracking.store import Store
from tests import small_cohort as small

if TYPE_CHECKING:
    from mlflow.entities import Run

CONTRACT = """\
name: small
prevalence: 0.2
columns:
  - {name: patient, role: patient_id}
  - {name: age, low: 18, high: 100, integer: true, missing: never, quasi_identifier: true}
  - {name: sex, kind: binary, missing: never, quasi_identifier: true}
  - {name: lactate, low: 0.01, high: 100, log: true, sensitive: true}
  - {name: pulse, low: 0, high: 250}
  - {name: y, kind: binary, role: outcome}
"""
EXPERIMENT = """\
name: small
task: table-outcome
sites: {source: tables, path: DATA}
arms:
  - {arm: local, epochs: 3}
  - {arm: pooled, epochs: 3}
  - {arm: federated, rounds: 2}
seeds: [0, 1]
engine: inline
tracking: {dir: MLRUNS}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "contract.yaml").write_text(CONTRACT)
    for site in small.SITES:
        small.rows(site, 120).to_csv(data / f"{site}.csv", index=False)
    return tmp_path


@pytest.fixture
def config(folder: Path, empty_database: Path) -> Callable[..., ExperimentConfig]:
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns")

    def read(text: str = EXPERIMENT) -> ExperimentConfig:
        path = folder / "small.yaml"
        path.write_text(text.replace("DATA", str(folder / "data")).replace("MLRUNS", str(folder / "mlruns")))
        return load(path)

    return read


def statuses(found: Comparison) -> list[str]:
    return [cell.status for cell in found.cells]


def test_a_repeated_command_skips_what_is_finished_and_shows_the_same_figures(config) -> None:  # type: ignore[no-untyped-def]
    first, second = runner.run(config()), runner.run(config())

    assert statuses(first) == ["done"] * 6
    assert statuses(second) == ["skipped"] * 6
    assert [c.result.metrics for c in first.cells] == [c.result.metrics for c in second.cells]
    assert runner.show(config()).summaries == second.summaries
    assert {len(s.seeds) for s in second.summaries} == {2}


def test_a_run_repeats_itself_bit_for_bit(config) -> None:  # type: ignore[no-untyped-def]
    def figures(found: Comparison) -> list[dict[str, float]]:
        return [{k: v for k, v in c.result.metrics.items() if not k.startswith("cost/")} for c in found.cells]

    assert figures(runner.run(config())) == figures(runner.run(config(), force=True))


def test_a_changed_cell_of_a_table_runs_again_and_the_plan_says_why(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    runner.run(config())
    table = pd.read_csv(folder / "data" / "north.csv")
    table.loc[3, "age"] += 1
    table.to_csv(folder / "data" / "north.csv", index=False)

    planned = runner.plan(config())

    assert {c.status for c in planned} == {"stale"}
    assert "north" in planned[0].reason
    assert statuses(runner.run(config())) == ["done"] * 6


def test_another_contract_runs_again(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    runner.run(config())
    (folder / "data" / "contract.yaml").write_text(CONTRACT.replace("prevalence: 0.2", "prevalence: 0.25"))

    planned = runner.plan(config())

    assert {c.status for c in planned} == {"stale"}
    assert "contract" in planned[0].reason


def test_a_raised_result_version_runs_again(config, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    runner.run(config())
    monkeypatch.setattr(runner, "RESULT_VERSION", runner.RESULT_VERSION + 1)
    monkeypatch.setattr("pettoolkit.tracking.finished.RESULT_VERSION", runner.RESULT_VERSION)

    assert {c.status for c in runner.plan(config())} == {"stale"}


def test_names_paths_and_engine_do_not_make_a_cell_stale(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    runner.run(config())
    moved = folder / "moved"
    (folder / "data").rename(moved)

    again = config(EXPERIMENT.replace("DATA", str(moved)).replace("engine: inline", "engine: ray"))

    assert {c.status for c in runner.plan(again)} == {"finished"}


def runs(folder: Path, which: str) -> list[Run]:
    """Runs in MLflow that are not deleted."""
    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id], which, max_results=100))


def test_a_changed_option_supersedes_cells_and_summary_and_going_back_costs_nothing(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    summaries = "tags.`pet.kind` = 'summary' and params.arm = 'federated'"
    runner.run(config())
    other = EXPERIMENT.replace("rounds: 2", "rounds: 3")

    planned = {c.spec.arm: c for c in runner.plan(config(other))}
    again = runner.run(config(other))

    assert (planned["federated"].status, planned["federated"].reason) == ("stale", "changed: rounds 2 -> 3")
    assert planned["local"].status == "finished"
    assert sorted(statuses(again)) == ["done"] * 2 + ["skipped"] * 4
    assert [run.data.params["rounds"] for run in runs(folder, summaries)] == ["3"]
    assert [r.data.params["rounds"] for r in runs(folder, "tags.`pet.superseded` = 'true'")] == ["2", "2"]

    assert statuses(runner.run(config())) == ["skipped"] * 6
    assert [run.data.params["rounds"] for run in runs(folder, summaries)] == ["2"]
    assert [r.data.params["rounds"] for r in runs(folder, "tags.`pet.superseded` = 'true'")] == ["3", "3"]


def test_other_seeds_have_their_own_summary_until_the_files_seeds_hold_them(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    def seeds() -> list[str]:
        found = runs(folder, "tags.`pet.kind` = 'summary' and params.arm = 'local'")
        return sorted(run.data.params["seed"] for run in found)

    runner.run(config())
    runner.run(config(EXPERIMENT.replace("[0, 1]", "[5]")))
    assert seeds() == ["0, 1", "5"]
    runner.run(config(EXPERIMENT.replace("[0, 1]", "[0, 1, 5]")))
    assert seeds() == ["0, 1, 5"]
    assert runs(folder, "tags.`pet.superseded` = 'true'") == []


def test_an_interrupted_run_goes_on_where_it_was(config, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    whole, calls = execute.execute, []

    def interrupted(*args):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(*args)

    monkeypatch.setattr(execute, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        runner.run(config())
    monkeypatch.setattr(execute, "execute", whole)

    assert [c.status for c in runner.plan(config())].count("finished") == 3
    assert sorted(statuses(runner.run(config()))) == ["done"] * 3 + ["skipped"] * 3


def test_one_failed_cell_keeps_the_others(config, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def crash(*_: object) -> None:
        raise ValueError("patient 17")

    monkeypatch.setattr("pettoolkit.arms.federated.inside.contribution", crash)

    found = runner.run(config())

    assert sorted(statuses(found)) == ["done"] * 4 + ["failed"] * 2
    assert all("hospital" in c.reason and "17" not in c.reason for c in found.cells if c.status == "failed")


def test_a_second_run_at_the_same_time_is_one_clear_line(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    with Store(folder / "mlruns").lock(), pytest.raises(BadInput, match=r"mlruns.*another"):
        runner.run(config())


def test_showing_an_experiment_that_never_ran_makes_nothing(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    shutil.rmtree(folder / "mlruns")

    found = runner.show(config())

    assert set(statuses(found)) == {"missing"}
    assert not (folder / "mlruns").exists()


def test_a_blank_prevalence_is_said_with_the_result_and_under_the_table(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    assert "prevalence is blank" not in runner.run(config()).together
    (folder / "data" / "contract.yaml").write_text(CONTRACT.replace("prevalence: 0.2\n", ""))

    found = runner.run(config())

    said = (
        "contract: prevalence is blank: alarms (accuracy, precision, sensitivity, F1) are counted from a score of 0.5"
    )
    assert all(any(note.startswith(said) for note in cell.result.notes) for cell in found.cells)
    assert found.together.count(said) == runner.show(config()).together.count(said) == 1


def test_a_second_model_on_the_same_generator_says_how_long_its_fit_took(config) -> None:  # type: ignore[no-untyped-def]
    text = EXPERIMENT.replace("arms:", "matrix: {model: [logistic, mlp]}\narms:")
    arms = "  - {arm: synthetic, generator: marginals, epochs: 3}\nseeds: [0]"
    found = runner.run(config(text[: text.index("  - {arm: local")] + arms + text.split("seeds: [0, 1]")[1]))

    first, second = (cell.result.metrics["cost/fit_seconds"] for cell in found.cells)
    assert first == second > 0
    assert "A generator is fitted once" in _table(found)


def _table(found: Comparison) -> str:
    from pettoolkit.report import terminal

    console = terminal.console()
    with console.capture() as captured:
        console.print(terminal.comparison(found.cells, found.summaries, found.together))
    return captured.get()


DATED = CONTRACT + '  - {name: admitted, role: date}\nsplit: {by: admitted, cut: "2020-01-01"}\n'


@pytest.fixture
def dated(folder: Path) -> None:
    """All patients of one hospital came after the cut, half of the others' before it."""
    (folder / "data" / "contract.yaml").write_text(DATED)
    for site in small.SITES:
        rows = pd.read_csv(folder / "data" / f"{site}.csv")
        rows["admitted"] = ["2021-01-01" if site == "west" or i % 2 else "2019-01-01" for i in range(len(rows))]
        rows.to_csv(folder / "data" / f"{site}.csv", index=False)


@pytest.mark.usefixtures("dated")
def test_a_hospital_without_training_patients_is_one_clear_line_before_anything_runs(config) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(BadInput) as caught:
        runner.run(config())

    assert list(caught.value.lines) == [
        "hospital west: has no training patients: admitted is 2020-01-01 or later for all of them "
        "(move split.cut of the contract, or name the hospital in evaluation.unseen)"
    ]
    unseen = EXPERIMENT + "evaluation: {unseen: [west]}\n"
    assert statuses(runner.run(config(unseen))) == ["done"] * 6


def test_without_the_tables_an_experiment_is_shown_as_recorded(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    before = runner.run(config())
    (folder / "data").rename(folder / "archive")

    found = runner.show(config())

    assert statuses(found) == ["skipped"] * 6
    assert [c.result for c in found.cells] == [c.result for c in before.cells]
    assert found.summaries == before.summaries
    assert "could not be checked, since the tables are not at hand: " in found.together
    assert found.together.startswith(before.together)
    assert statuses(runner.show(config(EXPERIMENT.replace("[0, 1]", "[0, 9]")))) == ["skipped", "missing"] * 3


def test_without_tables_and_without_a_record_the_missing_tables_are_the_finding(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    (folder / "data").rename(folder / "archive")

    with pytest.raises(BadInput, match="data"):
        runner.show(config())


def test_as_recorded_the_current_one_of_two_results_is_shown(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    table = folder / "data" / "north.csv"
    first = table.read_bytes()
    runner.run(config())
    rows = pd.read_csv(table)
    rows.loc[3, "age"] += 1
    rows.to_csv(table, index=False)
    changed = runner.run(config())
    (folder / "data").rename(folder / "archive")
    assert [c.run_id for c in runner.show(config()).cells] == [c.run_id for c in changed.cells]

    (folder / "archive").rename(folder / "data")
    table.write_bytes(first)
    back = runner.run(config())
    (folder / "data").rename(folder / "archive")
    assert statuses(back) == ["skipped"] * 6
    assert [c.run_id for c in runner.show(config()).cells] == [c.run_id for c in back.cells]


def test_a_summary_lands_beside_the_cells(config, folder: Path) -> None:  # type: ignore[no-untyped-def]
    import mlflow

    runner.run(config())
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("small")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=100)

    kinds = [run.data.tags["pet.kind"] for run in runs]
    assert kinds.count("cell") == 6
    assert kinds.count("summary") == 3
    for run in runs:
        assert "privacy/epsilon" not in run.data.metrics
        assert run.data.params["epsilon"] == "inf"
        json.dumps(run.data.metrics)


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray never starts."""
    from pettoolkit.errors import EngineFailed

    def fail(*_: object, **__: object) -> None:
        raise EngineFailed("ray did not start")

    monkeypatch.setattr("pettoolkit.federation.ray_grid.RayGrid", fail)


@pytest.mark.usefixtures("no_ray")
def test_without_ray_the_files_own_engine_gives_way_and_says_so(config) -> None:  # type: ignore[no-untyped-def]
    said: list[str] = []

    found = runner.run(
        config(EXPERIMENT.replace("engine: inline", "engine: ray")), progress=lambda doing, *_: said.append(doing)
    )

    assert statuses(found) == ["done"] * 6
    assert any("ray did not start; going on in this process" in line for line in said)


@pytest.mark.usefixtures("no_ray")
def test_without_ray_an_engine_asked_for_is_an_error(config) -> None:  # type: ignore[no-untyped-def]
    from pettoolkit.errors import EngineFailed

    with pytest.raises(EngineFailed, match="ray did not start"):
        runner.run(config(), engine="ray")


LEFT_OUT = """\
name: turn
task: table-outcome
sites: {source: tables, path: DATA}
arms: [{arm: pooled, epochs: 3}]
matrix: {evaluation.train_sites: [1, 2]}
evaluation: {unseen: each}
seeds: [0, 1]
engine: inline
tracking: {dir: MLRUNS}
"""


def test_hospitals_left_out_in_turn_share_one_interval_and_one_paired_contrast(config) -> None:  # type: ignore[no-untyped-def]
    from pettoolkit.report.lines import lines

    found = runner.run(config(LEFT_OUT))

    for line in lines(found.cells, found.summaries):
        metric = "robustness/auroc_unseen_site"
        alone = [
            s.intervals[metric] for s in found.summaries if s.spec.sites == line.spec.sites and metric in s.intervals
        ]
        together, value = line.interval(metric), line.mean(metric)
        assert line.left_out == small.SITES
        assert together.low < value < together.high
        assert together.high - together.low < max(i.high - i.low for i in alone)
    assert "2 training hospitals instead of 1 change AUROC at a left-out hospital by" in found.together
