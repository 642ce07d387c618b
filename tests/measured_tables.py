"""Two tables of made-up patients, really declared and really attacked; measured once for all tests of a session."""

from __future__ import annotations

import functools
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from pettoolkit.attacks.protocol import QUICK
from pettoolkit.experiment import attack as attacking
from pettoolkit.experiment.declare import as_json, declare
from tests.attacks.hospital_rows import CONTRACT, people_rows

N = 300
TABLES = ("made.csv", "copy.csv")
"""A table of fresh patients, and one that repeats the real ones."""


@dataclass(frozen=True)
class Measured:
    """Both documents, and the bytes of the tables by name."""

    quality: dict[str, Any]
    risk: dict[str, Any]
    files: dict[str, bytes]

    def write(self, folder: Path) -> None:
        """Write ``quality.json``, ``risk.json`` and both tables."""
        (folder / "quality.json").write_text(json.dumps(self.quality), encoding="utf-8")
        (folder / "risk.json").write_text(json.dumps(self.risk), encoding="utf-8")
        for name, data in self.files.items():
            (folder / name).write_bytes(data)


@functools.cache
def measured() -> Measured:
    """Declare and attack both tables, with a fifth of the attacks of ``quick``; nobody may change what is returned."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        text = yaml.safe_dump(CONTRACT.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        (folder / "contract.yaml").write_text(text, encoding="utf-8")
        for who, seed in (("real", 1), ("reference", 2)):
            rows = people_rows(N, seed)
            rows.assign(id=[f"p{seed}_{i}" for i in range(N)]).to_csv(folder / f"{who}.csv", index=False)
        for table, seed in zip(TABLES, (3, 1), strict=True):
            people_rows(N, seed).to_csv(folder / table, index=False)
        both = [folder / table for table in TABLES]
        declared = declare(folder / "real.csv", both, holdout=folder / "reference.csv", quick=True)
        patch.setattr(attacking, "EFFORTS", {"quick": replace(QUICK, attacks=100)})
        risk = attacking.attack(folder / "real.csv", both, folder / "reference.csv", attacks="quick").as_json()
        files = {path.name: path.read_bytes() for path in both}
    return Measured(json.loads(as_json(declared)), json.loads(json.dumps(risk)), files)
