"""The experiments on accuracy against risk: they load, say what is missing, and fit the table they are written for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pettoolkit import cli
from pettoolkit.experiment import runner
from pettoolkit.experiment.load import load
from pettoolkit.experiment.matrix import expand

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def pima(n: int = 300) -> pd.DataFrame:
    """Made-up rows with the columns of the public file, zeros for what was not measured included."""
    rng = np.random.default_rng(0)
    glucose = np.clip(rng.normal(120, 30, n), 44, 199).round()
    return pd.DataFrame(
        {
            "Pregnancies": rng.poisson(4, n).clip(0, 17),
            "Glucose": np.where(rng.random(n) < 0.01, 0, glucose),
            "BloodPressure": rng.normal(70, 12, n).clip(0, 122).round(),
            "SkinThickness": np.where(rng.random(n) < 0.3, 0, rng.normal(29, 10, n).clip(7, 99).round()),
            "Insulin": np.where(rng.random(n) < 0.48, 0, rng.gamma(2, 75, n).clip(14, 846).round()),
            "BMI": rng.normal(32, 7, n).clip(18.2, 67.1).round(1),
            "DiabetesPedigreeFunction": rng.gamma(2, 0.23, n).clip(0.08, 2.42).round(3),
            "Age": (21 + rng.gamma(1.5, 8, n)).clip(21, 81).round().astype(int),
            "Outcome": (rng.random(n) < 1 / (1 + np.exp(-(glucose - 135) / 20))).astype(int),
        }
    )


@pytest.mark.parametrize("name", ["reidentification", "diabetes_tradeoff"])
def test_check_says_that_the_file_is_fine(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", f"experiments/{name}.yaml"]) == 0
    assert f"{name}.yaml: ok" in capsys.readouterr().out


def test_without_the_csv_one_line_says_where_it_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    there = ["--set", f"sites.path={tmp_path / 'diabetes.csv'}", "--set", f"tracking.dir={tmp_path / 'mlruns'}"]
    assert cli.main(["plan", "experiments/diabetes_tradeoff.yaml", *there]) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "diabetes.csv: there is no such file" in said[0]


def test_the_columns_of_the_public_file_fit_the_contract(tmp_path: Path) -> None:
    pima().to_csv(tmp_path / "diabetes.csv", index=False)
    config = load(
        ROOT / "experiments" / "diabetes_tradeoff.yaml",
        [f"sites.path={tmp_path / 'diabetes.csv'}", f"tracking.dir={tmp_path / 'mlruns'}"],
    )
    cells = runner.plan(config)
    assert {cell.status for cell in cells} == {"to run"}
    assert len(cells) == 4 * 2 * 5


def test_reidentification_has_the_real_records_each_k_each_generator_and_each_budget() -> None:
    cells = [c for c in expand(load(ROOT / "experiments" / "reidentification.yaml"), None) if c.excluded is None]
    found = {
        (c.spec.arm, c.spec.options.get("k") or c.spec.options.get("generator"), c.spec.dp and c.spec.dp.epsilon)
        for c in cells
    }
    assert {("pooled", None, e) for e in (None, 10, 3, 1)} <= found
    assert {("anonymised", k, None) for k in (3, 5, 10)} <= found
    assert {("synthetic", g, None) for g in ("marginals", "gaussian_copula", "ctgan", "tvae")} <= found
    assert {("synthetic", g, e) for g in ("marginals", "dp_vae") for e in (10, 3, 1)} <= found
    assert {c.spec.attacks for c in cells} == {"full"}
