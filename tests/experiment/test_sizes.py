"""A delta that is no protection is refused as soon as the hospitals' sizes are known: before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.source import load_cohort
from pettoolkit.errors import BadInput
from pettoolkit.experiment.load import load
from pettoolkit.experiment.runner import plan, run
from pettoolkit.experiment.sizes import training_patients
from pettoolkit.hospital.site import Site
from tests import small_cohort as small
from tests.experiment.test_runner import CONTRACT

SIZES = {"east": 120, "north": 200, "west": 301}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    data.mkdir()
    (data / "contract.yaml").write_text(CONTRACT)
    for name, n in SIZES.items():
        small.rows(name, n).to_csv(data / f"{name}.csv", index=False)
    return tmp_path


def experiment(folder: Path, arms: str, more: str) -> Path:
    path = folder / "x.yaml"
    path.write_text(
        f"name: x\ntask: table-outcome\nsites: {{source: tables, path: {folder / 'data'}}}\nengine: inline\n"
        f"tracking: {{dir: {folder / 'mlruns'}}}\narms: [{arms}]\n{more}\n"
    )
    return path


def test_a_large_delta_is_an_error_where_it_is_written(folder: Path) -> None:
    path = experiment(folder, "{arm: federated}, {arm: pooled}", "dp: {epsilon: 1, delta: 0.01}")
    largest = Site("west", small.rows("west", 301), small.CONTRACT).training_patients(small.spec("local"))[1]
    for command in (plan, run):
        with pytest.raises(BadInput) as found:
            command(load(path))
        (line,) = found.value.lines
        assert line.startswith(f"{path}:7: dp.delta: 0.01 must be below 1/{largest}, one over the training patients")
    assert not (folder / "mlruns").exists() or not list((folder / "mlruns").glob("**/weights*"))


def test_a_large_delta_of_the_matrix_is_excluded_with_its_reason(folder: Path) -> None:
    path = experiment(folder, "{arm: federated}", "dp: {epsilon: 1}\nmatrix: {dp.delta: [1.0e-5, 0.01]}")
    found = {cell.spec.dp.delta: (cell.status, cell.reason) for cell in plan(load(path)) if cell.spec.dp}
    assert found[1e-5] == ("to run", "")
    assert found[0.01][0] == "excluded"
    assert found[0.01][1].startswith("dp.delta: 0.01 must be below 1/")


def test_fewer_patients_allow_a_larger_delta_and_all_together_a_smaller_one(folder: Path) -> None:
    few = "evaluation: {total_patients: 60}"
    for arm, more, possible in (
        ("federated", "", False),  # 1/166
        ("federated", few, True),  # 1/20
        ("pooled", few, False),  # 1/60
        ("synthetic, generator: marginals", few, True),
    ):
        path = experiment(folder, f"{{arm: {arm}}}", f"dp: {{epsilon: 1, delta: 0.02}}\n{more}")
        if possible:
            assert [cell.status for cell in plan(load(path))] == ["to run"]
        else:
            with pytest.raises(BadInput, match=r"dp\.delta: 0\.02 must be below 1/"):
                plan(load(path))


def test_a_delta_without_a_guarantee_for_patients_is_not_judged(folder: Path) -> None:
    path = experiment(folder, "{arm: synthetic}", "dp: {epsilon: 1, delta: 0.02, target: downstream}")
    assert [cell.status for cell in plan(load(path))] == ["to run"]


def test_the_counts_are_those_of_the_hospitals_for_any_seed_and_secret(folder: Path) -> None:
    several = pd.concat([small.rows("east", 120), small.rows("east", 120).iloc[:40]])
    several.to_csv(folder / "data" / "east.csv", index=False)
    cohort = load_cohort("tables", folder / "data", "hospital")
    counted = training_patients(cohort)
    rng = np.random.default_rng(0)
    for name, hospital in cohort.hospitals.items():
        for seed in range(3):
            site = Site(name, hospital.rows, cohort.contract, salt=rng.bytes(8))
            assert site.training_patients(replace(small.spec("local"), seed=seed))[1] == counted[name]
