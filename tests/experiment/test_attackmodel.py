"""`pettoolkit attack --model`: a saved model is attacked as it was trained."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pettoolkit import cli
from pettoolkit.errors import BadInput
from pettoolkit.experiment.attack import attack
from pettoolkit.experiment.attackmodel import trained
from pettoolkit.experiment.deployed import NO_ROWS
from pettoolkit.experiment.execute import execute, weights_of
from pettoolkit.hospital.site import Part, Site
from pettoolkit.records import RunResult, RunSpec, from_json, to_json
from pettoolkit.report import risk
from pettoolkit.tracking.artifacts import as_json, cell_files, write
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
    (note,) = measured.notes
    assert re.match(
        r"13 of 413 rows stand beyond the first 55% of the run's order \(seed 0\), no more than chance", note
    )
    assert (measured.source, measured.rows) == ("model", found.people["members"])
    assert {"membership_auc"} <= {f.measure for f in measured.figures}
    assert measured.verdict.state != "above"  # six rounds of logistic regression on 412 patients
    assert "patients trained on" in "\n".join(risk.lines(kept(found.as_json())))


def test_who_hands_in_patients_that_were_not_trained_on_gets_them_left_out(folder: Path) -> None:
    weights, contract = folder / "weights.safetensors", small.CONTRACT
    right, _ = rows_of(folder / "real")
    known = set(right["patient"])
    whole, _ = rows_of(folder / "whole")
    everybody = pd.concat([whole, rows_of(folder / "reference")[0]])
    for rows in (whole, everybody, early(folder)):
        chosen, note = trained(weights, rows, rows["site"].to_numpy(dtype=np.str_), contract)
        members = set(rows.loc[chosen.tolist(), "patient"])
        assert len(members ^ known) <= 3  # each part is cut by number, and rounded
        assert note.startswith(f"the run trained on about {len(members)} of the {len(rows)} rows")


def early(folder: Path) -> pd.DataFrame:
    """Patients of training and validation: 65 % of the order, of whom a tenth of all was not trained on."""
    spec = small.spec("federated")
    sites = small.hospitals()
    rows = pd.concat([table(s, spec, "train", "validation").assign(site=n) for n, s in sites.items()])
    assert len(rows) > len(rows_of(folder / "real")[0]) + 70
    return rows


def variant(folder: Path, to: Path, *, deployed: bool = False, **spec: Any) -> Path:
    """The weights beside the result of a run that differs in its spec."""
    result = from_json(RunResult, json.loads((folder / "result.json").read_text()))
    if deployed:
        result = replace(result, privacy=replace(result.privacy, measured=NO_ROWS))
    write(to, {"result.json": as_json(to_json(replace(result, spec=replace(result.spec, **spec))))})
    return to / "weights.safetensors"


def test_of_deployed_hospitals_nobody_is_thrown_out_by_a_split_that_is_not_theirs(folder: Path, tmp_path: Path) -> None:
    spec = small.spec("federated")
    salted = {name: Site(name, small.rows(name), small.CONTRACT, salt=name.encode()) for name in small.SITES}
    rows = pd.concat([table(site, spec, "train").assign(site=name) for name, site in salted.items()])
    sites = rows["site"].to_numpy(dtype=np.str_)
    chosen, note = trained(variant(folder, tmp_path, deployed=True), rows, sites, small.CONTRACT)
    assert chosen.all()
    assert "deployed hospitals split by a secret of their own" in note
    chosen, _ = trained(folder / "weights.safetensors", rows, sites, small.CONTRACT)
    assert chosen.sum() < 0.7 * len(rows)  # what the open split would have made of them


@pytest.mark.parametrize("arm", ["pooled", "federated"])
def test_patients_of_an_unseen_hospital_are_no_members(folder: Path, tmp_path: Path, arm: str) -> None:
    weights = variant(folder, tmp_path, arm=arm, sites=("east", "north"), unseen=("west",))
    for where in ("real", "whole"):
        rows, site = rows_of(folder / where)
        chosen, note = trained(weights, rows, site, small.CONTRACT)
        assert set(site[chosen]) == {"east", "north"}
        assert f"the run did not train on west: {(site == 'west').sum()} rows were left out" in note
        assert abs(chosen.sum() - 275) <= 3
    with pytest.raises(BadInput, match="its hospitals are west, those that trained east, north"):
        trained(weights, rows[site == "west"], site[site == "west"], small.CONTRACT)
    _, note = trained(weights, rows, np.full(len(rows), "together"), small.CONTRACT)
    assert "rows of west, where the run did not train, can't be told" in note


def test_the_limit_of_patients_holds_at_each_hospital(folder: Path, tmp_path: Path) -> None:
    weights = variant(folder, tmp_path, arm="pooled", patients_per_site=60)
    spec = replace(small.spec("pooled"), patients_per_site=60)
    known = {p for site in small.hospitals().values() for p in table(site, spec, "train")["patient"]}
    assert len(known) == 180
    for where in ("real", "whole"):
        rows, site = rows_of(folder / where)
        chosen, note = trained(weights, rows, site, small.CONTRACT)
        assert len(set(rows.loc[chosen, "patient"]) & known) >= 178
        assert chosen.sum() == 180
        assert "and 60 patients of each hospital" in note
        chosen, note = trained(weights, rows, np.full(len(rows), "together"), small.CONTRACT)
        assert chosen.sum() == 180
        assert len(set(rows.loc[chosen, "patient"]) & known) >= 160
        assert "--real does not tell hospitals apart" in note


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
