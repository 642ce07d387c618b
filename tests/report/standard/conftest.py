"""Documents that the reports are made of: really declared and really attacked, on few made-up patients."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pettoolkit.attacks.protocol import QUICK
from pettoolkit.experiment import attack as attacking
from pettoolkit.experiment.declare import as_json, declare
from pettoolkit.report.standard.given import Given, tables
from tests.attacks.hospital_rows import CONTRACT, people_rows

N = 300
PEOPLE: dict[str, Any] = {
    "responsible": {"name": "Ada Lovelace", "email": "ada@example.org"},
    "date": "2026-11-24",
    "version": "pettoolkit 0.1",
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real patients, others, a contract, and two tables: of other patients (``made.csv``) and of the same."""
    found = tmp_path_factory.mktemp("standard")
    text = yaml.safe_dump(CONTRACT.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    (found / "contract.yaml").write_text(text, encoding="utf-8")
    for name, seed in (("real", 1), ("reference", 2)):
        rows = people_rows(N, seed)
        rows.assign(id=[f"p{seed}_{i}" for i in range(N)]).to_csv(found / f"{name}.csv", index=False)
    people_rows(N, 3).to_csv(found / "made.csv", index=False)
    people_rows(N, 1).to_csv(found / "copy.csv", index=False)
    return found


@pytest.fixture(scope="session")
def measured(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Declaration and risk of both tables, written to ``quality.json`` and ``risk.json`` too."""
    both = [folder / "made.csv", folder / "copy.csv"]
    declared = declare(folder / "real.csv", both, holdout=folder / "reference.csv", quick=True)
    quality = json.loads(as_json(declared))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attacking, "EFFORTS", {"quick": replace(QUICK, attacks=100)})
        risk = attacking.attack(folder / "real.csv", both, folder / "reference.csv", attacks="quick").as_json()
    (folder / "quality.json").write_text(json.dumps(quality), encoding="utf-8")
    (folder / "risk.json").write_text(json.dumps(risk), encoding="utf-8")
    return quality, json.loads(json.dumps(risk))


@pytest.fixture
def made(measured: tuple[dict[str, Any], dict[str, Any]]) -> Given:
    return tables(*measured, settings={"generator": "marginals", "seed": "1"}, **PEOPLE)[0]


@pytest.fixture
def copied(measured: tuple[dict[str, Any], dict[str, Any]]) -> Given:
    return tables(*measured, **PEOPLE)[1]
