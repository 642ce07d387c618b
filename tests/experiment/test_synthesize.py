"""A table of synthetic patients from a table of real ones: what it holds, says and refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from pettoolkit import cli
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode
from pettoolkit.cohort.tables import load_tables
from pettoolkit.errors import BadInput, Refused
from pettoolkit.experiment.synthesize import MARK, SEED_UNUSED, Synthesized, synthesize
from pettoolkit.synthesis.release_filter import Filtered
from tests import small_cohort as small

CONTRACT = """
name: small
prevalence: 0.2
columns:
  - {name: patient, role: patient_id}
  - {name: age, low: 18, high: 100, integer: true, missing: never, quasi_identifier: true}
  - {name: sex, kind: binary, missing: never, quasi_identifier: true}
  - {name: lactate, low: 0.2, high: 30, log: true, sensitive: true}
  - {name: pulse, low: 30, high: 200}
  - {name: y, kind: binary, role: outcome}
"""


def rows(site: str) -> pd.DataFrame:
    """A table that keeps the contract: a person's own table is not clipped to it but refused."""
    table = small.rows(site)
    return table.assign(lactate=table["lactate"].clip(0.2, 30), pulse=table["pulse"].clip(30, 200))


@pytest.fixture
def real(tmp_path: Path) -> Path:
    (tmp_path / "contract.yaml").write_text(CONTRACT, encoding="utf-8")
    return written(tmp_path, rows("east"))


def written(folder: Path, table: pd.DataFrame) -> Path:
    path = folder / "real.parquet"
    table.to_parquet(path, index=False)
    return path


def make(real: Path, **asked: object) -> Synthesized:
    return synthesize(real, real.parent / "made.parquet", **{"generator": "marginals", **asked})  # type: ignore[arg-type]


def mark(real: Path) -> dict[str, object]:
    said: dict[str, object] = json.loads(pq.read_schema(real.parent / "made.parquet").metadata[MARK])
    return said


@pytest.mark.parametrize("epsilon", [None, 3.0])
def test_the_table_has_the_contracts_columns_without_patient_ids(real: Path, epsilon: float | None) -> None:
    made = make(real, epsilon=epsilon)
    read = pd.read_parquet(real.parent / "made.parquet")

    pd.testing.assert_frame_equal(read, made.rows)
    assert list(read) == ["age", "sex", "lactate", "pulse", "y"]
    assert len(read) == len(rows("east"))


def test_with_epsilon_the_file_carries_the_guarantee(real: Path) -> None:
    lines = make(real, epsilon=3.0).lines
    private = mark(real)["differential_privacy"]

    assert isinstance(private, dict)
    assert (private["epsilon"], private["delta"]) == (3.0, 1e-5)
    assert private["epsilon_replace_one"] > 3.0
    assert any(line.startswith("Guaranteed: epsilon 3 at delta 1e-05") for line in lines)


def test_without_epsilon_it_says_that_nothing_is_guaranteed(real: Path) -> None:
    lines = make(real).lines
    assert mark(real)["differential_privacy"] is None
    assert any(line.startswith("Guaranteed: nothing") for line in lines)


def test_a_seed_repeats_a_table_but_never_its_privacy_noise(real: Path) -> None:
    def again(epsilon: float | None) -> pd.DataFrame:
        (real.parent / "made.parquet").unlink(missing_ok=True)
        return make(real, seed=5, epsilon=epsilon).rows

    pd.testing.assert_frame_equal(again(None), again(None))
    assert not again(3.0).equals(again(3.0))
    (real.parent / "made.parquet").unlink()
    assert SEED_UNUSED in make(real, seed=5, epsilon=3.0).lines


def test_a_folder_that_is_not_there_is_said_before_the_fit(real: Path) -> None:
    with pytest.raises(BadInput, match="--out: there is no folder"):
        synthesize(real, real.parent / "no" / "made.parquet", generator="marginals")


def test_gaussian_copula_makes_a_table_too(real: Path) -> None:
    assert len(make(real, generator="gaussian_copula", rows=20).rows) == 20


@pytest.mark.parametrize("generator", ["ctgan", "tvae"])
def test_deep_generators_take_their_epochs(real: Path, generator: str) -> None:
    assert len(make(real, generator=generator, rows=20, fit_epochs=1).rows) == 20


def test_dp_vae_states_the_replace_one_figure_of_clipped_sums(real: Path) -> None:
    make(real, generator="dp_vae", epsilon=3.0)
    private = mark(real)["differential_privacy"]
    assert isinstance(private, dict)
    assert private["epsilon_replace_one"] > 6.0  # sensitivity doubles; for histograms it grows by sqrt(2)


def test_the_filter_holds_rows_back_and_says_how_many(real: Path) -> None:
    lines = make(real, release_filter="close").lines
    assert any(line.startswith("Held back: 0 rows that repeat a patient, ") for line in lines)


def test_the_filter_says_what_a_model_loses_by_it(real: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against scikit-learn on the same rows; what is held back are the septic, so that the model is spoilt."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    def half(made: pd.DataFrame, real: pd.DataFrame, contract: Contract, mode: str) -> Filtered:
        worse = made.assign(y=made["y"].to_numpy()[::-1])
        return Filtered(worse, 0, 0, 0.0)

    monkeypatch.setattr("pettoolkit.experiment.synthesize.release_filter_of", half)
    made = make(real, release_filter="exact", seed=1)
    contract = load_tables(real)[1].select("full")
    patients = pd.read_parquet(real)
    model = LogisticRegression(max_iter=1000).fit(encode(made.rows, contract), made.rows["y"])
    after = roc_auc_score(patients["y"], model.predict_proba(encode(patients, contract))[:, 1])
    said = re.search(r"Utility before: AUROC ([.\d]+); after: AUROC ([.\d]+) ", "\n".join(made.lines))
    assert said is not None
    assert float(said[2]) == pytest.approx(after, abs=6e-4)
    assert float(said[1]) > after + 0.05


def test_a_table_that_is_there_is_never_overwritten(real: Path) -> None:
    (real.parent / "made.parquet").write_bytes(b"precious")
    with pytest.raises(BadInput, match="is there already"):
        make(real)
    assert (real.parent / "made.parquet").read_bytes() == b"precious"


WRONG = [
    (
        {"generator": "marginal"},
        "--generator: must be one of ctgan, dp_vae, gaussian_copula, marginals, tvae (got marginal)",
    ),
    ({"epsilon": -1.0}, "--epsilon: must be greater than 0 (got -1.0)"),
    ({"generator": "gaussian_copula", "epsilon": 1.0}, "--epsilon: generator gaussian_copula has no differential"),
    ({"rows": 0}, "--rows: must be at least 1 (got 0)"),
    ({"seed": -2}, "--seed: must be at least 0 (got -2)"),
    ({"delta": 1e-6}, "--delta: belongs to --epsilon"),
    ({"generator": "dp_vae"}, "--generator: dp_vae exists with differential privacy only; give --epsilon"),
    ({"fit_epochs": 3}, "--fit-epochs: belongs to ctgan and tvae, not to marginals"),
    ({"generator": "tvae", "fit_epochs": 0}, "--fit-epochs: must be at least 1 (got 0)"),
    ({"release_filter": "near"}, "--filter: must be one of none, exact, close (got near)"),
    ({"release_filter": "close", "epsilon": 1.0}, "--filter: reads real rows to decide"),
]


@pytest.mark.parametrize(("asked", "line"), WRONG)
def test_what_can_not_be_has_one_line_and_writes_nothing(real: Path, asked: dict[str, object], line: str) -> None:
    with pytest.raises(BadInput) as error:
        make(real, **asked)
    assert len(error.value.lines) == 1
    assert error.value.lines[0].startswith(line)
    assert not (real.parent / "made.parquet").exists()


def test_too_large_a_delta_is_refused(real: Path) -> None:
    with pytest.raises(Refused, match="delta"):
        make(real, epsilon=1.0, delta=0.1)


@pytest.mark.parametrize("what", ["constant", "missing", "one class", "one level", "one patient"])
@pytest.mark.parametrize("epsilon", [None, 1.0])
def test_an_odd_table_is_no_problem(real: Path, what: str, epsilon: float | None) -> None:
    table = rows("east")
    changes = {"constant": ("pulse", 80.0), "missing": ("lactate", np.nan), "one level": ("sex", 1.0)}
    if what == "one patient":
        table = table.iloc[:1]
    else:
        column, value = changes.get(what, ("y", np.int8(0)))
        table[column] = value
    assert len(make(written(real.parent, table), epsilon=epsilon, rows=30).rows) == 30


def test_a_real_table_without_a_column_of_the_contract_is_refused(real: Path) -> None:
    with pytest.raises(BadInput, match="pulse"):
        make(written(real.parent, rows("east").drop(columns="pulse")))


@pytest.mark.parametrize("kind", ["kind: number, low: 0, high: 9", "kind: category, levels: [low, mid, high]"])
def test_an_outcome_that_is_not_yes_or_no_has_one_line(real: Path, kind: str) -> None:
    said = CONTRACT.replace("{name: y, kind: binary,", f"{{name: y, {kind},").replace("prevalence: 0.2\n", "")
    (real.parent / "contract.yaml").write_text(said, encoding="utf-8")
    with pytest.raises(BadInput) as error:
        make(real)
    (line,) = error.value.lines
    assert "y: the outcome is a " in line
    assert "`pettoolkit declare` takes any" in line


def test_the_command_prints_what_was_made(real: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = real.parent / "made.parquet"
    assert cli.main(["synthesize", "--real", str(real), "--epsilon", "2", "--out", str(out)]) == 0
    assert f"wrote {out}: 250 synthetic rows" in capsys.readouterr().out
    assert cli.main(["synthesize", "--real", str(real), "--out", str(out)]) == 2
