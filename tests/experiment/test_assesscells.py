"""The standard reports of a run's cells: what a cell knows of its table, and where its reports go."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from pettoolkit import cli
from pettoolkit.experiment.assesscells import given_of
from pettoolkit.experiment.execute import Executed, execute
from pettoolkit.experiment.quality import ARTIFACT
from pettoolkit.experiment.released import MARK, TABLE, table_files
from pettoolkit.records import AttackFigure, Guarantee, Interval, MeasuredRisk, RunResult, Verdict
from pettoolkit.report.standard import schema, write
from pettoolkit.report.standard.given import Given
from pettoolkit.tracking.store import Store
from tests import small_cohort as small

WHO: dict[str, Any] = {
    "responsible": {"name": "Ada Lovelace", "email": "ada@example.org"},
    "date": "2026-11-24",
    "version": "pettoolkit 0",
    "settings": {},
}


@cache
def executed(arm: str) -> Executed:
    with small.grid(small.hospitals()) as grid:
        return execute(grid, small.spec(arm), "hash")


def given(arm: str, **changed: Any) -> tuple[Given, bytes]:
    done = executed(arm)
    result: RunResult = replace(done.result, **changed)
    files = table_files(done.table, result.privacy.guarantee, {})
    return given_of(result, files[TABLE], json.loads(files[MARK]), done.files[ARTIFACT], WHO), files[TABLE]


def figure(attack: str, **changed: Any) -> AttackFigure:
    known: dict[str, Any] = {"success": 0.4, "control": 0.1, "excess": 0.33, "interval": Interval(0.2, 0.5)}
    known |= {"measure": "membership", "view": "release", "knowledge": "full", "seconds": 1.0}
    return AttackFigure(attack=attack, patients=90, wanted=100, achieved=90, **known | changed)


def attacked(*figures: AttackFigure) -> MeasuredRisk:
    verdict = Verdict("above", 0.33, 0.09, "near_match membership 0.33 (at least 0.20) is above 0.09")
    return MeasuredRisk(figures, {"intersection": "does not apply: there is one release"}, verdict, verdict)


@pytest.mark.parametrize("arm", ["synthetic", "anonymised"])
def test_a_cells_reports_are_about_its_table_and_say_that_nobody_attacked_it(arm: str) -> None:
    found, rows = given(arm)
    assert found.sha256 == hashlib.sha256(rows).hexdigest()
    assert found.settings["arm"] == arm
    assert (found.quality is not None, found.risk) == (True, None)
    for report in write.REPORTS:
        jsonschema.validate(write.document(report, found), schema.schema(report))
    assert "pettoolkit attack --real" in write.files("privacy", found)["privacy.html"].decode()


def test_of_a_cells_risk_only_what_is_about_the_release_as_a_whole_is_shown() -> None:
    insider, one = figure("held", view="insider"), figure("stacked", measure="membership_auc", site="north")
    model = figure("stacked", measure="membership_auc")
    measured = attacked(figure("near_match"), insider, one, model)
    privacy = replace(executed("anonymised").result.privacy, measured=measured)
    found, _ = given("anonymised", privacy=privacy)
    document = write.document("privacy", found)
    jsonschema.validate(document, schema.schema("privacy"))
    assert [a["attack"] for a in document["risk"]["attacks"]] == ["near_match", "stacked"]
    assert document["risk"]["source"] == "anonymised"
    for lang in ("en", "da"):
        page = write.files("privacy", found, lang)["privacy.html"].decode()
        assert not re.search(r"\b(NaN|nan|None|null)\b", page[page.index("<body>") :])
        assert ("the model that was trained on the table" if lang == "en" else "En kørsel angriber også") in page


def test_rows_that_were_held_back_are_counted_in_the_privacy_assurance() -> None:
    held = {"synthetic/filter/exact": 3.0, "synthetic/filter/close": 2.0}
    found, _ = given("synthetic", metrics={**executed("synthetic").result.metrics, **held})
    assert write.document("privacy", found)["matches"]["removed"] == {"exact": 3.0, "close": 2.0}
    page = write.files("privacy", found)["privacy.html"].decode()
    assert "equalled a real patient&#x27;s: 3 rows" in page
    assert "No removal of matches" not in page


def test_a_guarantee_is_said_with_its_numbers_and_that_its_noise_is_simulated() -> None:
    private = replace(executed("synthetic").result.privacy, guarantee=Guarantee(3.0, 4.0, 1e-5, "Gaussian", "noise"))
    found, _ = given("synthetic", privacy=private)
    for report in ("privacy", "checklist"):
        page = write.files(report, found)[f"{report}.html"].decode()
        assert "Differential privacy with epsilon 3 at delta 1e-05" in page
        assert "whoever knows the seed can take it off" in page


@pytest.mark.slow
def test_the_command_writes_reports_of_a_run_and_attaches_them(tmp_path: Path) -> None:
    config = {
        "name": "reports",
        "sites": {"source": "simulated", "stays": 150},
        "arms": [{"arm": "local"}, {"arm": "synthetic", "generator": "marginals"}],
        "attacks": "quick",
        "engine": "inline",
        "responsible": WHO["responsible"],
        "tracking": {"dir": str(tmp_path / "runs")},
    }
    file = tmp_path / "reports.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    asked = ["assess", "--experiment", str(file), "--out", str(tmp_path / "out")]
    assert cli.main(asked) == 2  # nothing was run yet
    assert cli.main(["run", str(file)]) == 0
    assert cli.main(asked) == 0

    (folder,) = (tmp_path / "out").iterdir()
    assert folder.name.startswith("synthetic_marginals_logistic_seed0-")
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    jsonschema.validate(summary, schema.schema("summary"))
    assert summary["risk"]["attacks"]
    assert summary["responsible"] == WHO["responsible"]
    with Store(tmp_path / "runs") as store:
        (cell,) = (c for c in store.finished("reports").values() if c.params["arm"] == "synthetic")
        assert store.artifact(cell.run_id, "reports/summary.html") == (folder / "summary.html").read_bytes()
        assert store.artifact(cell.run_id, TABLE) is not None
        assert store.artifact(cell.run_id, "reports/no.html") is None
