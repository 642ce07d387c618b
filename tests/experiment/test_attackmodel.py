"""`pettoolkit attack --model`: a saved model is attacked as it was trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pettoolkit import cli
from pettoolkit.errors import BadInput
from pettoolkit.experiment.attack import attack
from pettoolkit.experiment.attackmodel import trained
from pettoolkit.experiment.execute import execute, weights_of
from pettoolkit.hospital.site import Part, Site
from pettoolkit.records import RunSpec
from pettoolkit.report import risk
from pettoolkit.tracking.artifacts import cell_files, write
from tests import small_cohort as small
from tests.experiment.test_riskschema import kept


def table(site: Site, spec: RunSpec, *parts: Part) -> pd.DataFrame:
    return pd.concat([site.rows.iloc[site.index(spec, part)] for part in parts])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished federated cell, its training patients by hospital, and its reference patients."""
    folder = tmp_path_factory.mktemp("model")
    spec = small.spec("federated")
    tables = {
        name: small.rows(name).assign(
            lactate=lambda r: r["lactate"].clip(0.2, 30), pulse=lambda r: r["pulse"].clip(30, 200)
        )
        for name in small.SITES
    }
    sites = small.hospitals(**tables)
    with small.grid(sites) as grid:
        done = execute(grid, spec, "hash")
    write(folder, cell_files(done.result, b"", weights_of(done.models), ""))
    (folder / "contract.yaml").write_text(
        yaml.safe_dump(small.CONTRACT.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8"
    )
    for name, site in sites.items():
        whole = ("train", "validation", "test")
        for where, parts in (("real", ("train",)), ("whole", whole), ("reference", ("control", "attacker"))):
            (folder / where).mkdir(exist_ok=True)
            table(site, spec, *parts).to_csv(folder / where / f"{name}.csv", index=False)  # type: ignore[arg-type]
    return folder


def test_a_saved_model_is_attacked_by_models_trained_alike(folder: Path) -> None:
    found = attack(
        folder / "real",
        [],
        folder / "reference",
        model=folder / "weights.safetensors",
        contract=folder / "contract.yaml",
        attacks="quick",
    )
    (measured,) = found.releases
    assert measured.notes == ()
    assert (measured.source, measured.rows) == ("model", found.people["members"])
    assert {"membership_auc"} <= {f.measure for f in measured.figures}
    assert measured.verdict.state != "above"  # six rounds of logistic regression on 412 patients
    assert "patients trained on" in "\n".join(risk.lines(kept(found.as_json())))


def test_who_hands_in_patients_that_were_not_trained_on_gets_them_left_out(folder: Path) -> None:
    weights, contract = folder / "weights.safetensors", small.CONTRACT
    right, _ = rows_of(folder / "real")
    for where, said in (("real", ""), ("whole", "the run trained on")):
        rows, site = rows_of(folder / where)
        chosen, note = trained(weights, rows, site, contract)
        assert note.startswith(said)
        assert bool(note) == bool(said)
        members, known = set(rows.loc[chosen, "patient"]), set(right["patient"])
        assert members <= known
        # without the reference patients the split ends a little earlier, at 55 % of 85 %
        assert len(members) >= (0.8 * len(known) if said else len(known))


def rows_of(folder: Path) -> tuple[pd.DataFrame, np.ndarray]:
    tables = [pd.read_csv(path).assign(site=path.stem) for path in sorted(folder.glob("*.csv"))]
    together = pd.concat(tables, ignore_index=True)
    return together, together["site"].to_numpy(dtype=np.str_)


def test_without_the_runs_result_it_says_what_is_missing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "weights.safetensors").write_bytes((folder / "weights.safetensors").read_bytes())
    asked = ["attack", "--real", str(folder / "real"), "--reference", str(folder / "reference")]
    asked += ["--contract", str(folder / "contract.yaml"), "--model", str(tmp_path / "weights.safetensors")]
    assert cli.main(asked) == 2
    assert "result.json: can't be read" in capsys.readouterr().err


def test_other_hospitals_than_those_that_trained_are_refused(folder: Path, tmp_path: Path) -> None:
    everybody = pd.concat([pd.read_csv(path) for path in sorted((folder / "real").glob("*.csv"))])
    everybody.to_csv(tmp_path / "together.csv", index=False)
    with pytest.raises(BadInput, match="its hospitals are together, those that trained east, north, west"):
        attack(
            tmp_path / "together.csv",
            [],
            folder / "reference",
            model=folder / "weights.safetensors",
            contract=folder / "contract.yaml",
        )


def test_neither_table_nor_model_is_refused(folder: Path) -> None:
    with pytest.raises(BadInput, match="at least one table is needed"):
        attack(folder / "real", [], folder / "reference")
