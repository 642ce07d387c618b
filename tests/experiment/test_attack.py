"""`pettoolkit attack`: what it measures on anybody's table, says, writes and refuses."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from pettoolkit import cli
from pettoolkit.attacks import protocol
from pettoolkit.attacks.protocol import QUICK
from pettoolkit.errors import BadInput
from pettoolkit.experiment import attack as attacking
from pettoolkit.experiment.attack import Measured, RiskReport, attack
from pettoolkit.records import NotMeasured, Verdict
from pettoolkit.report import risk
from pettoolkit.synthesis.anonymise import anonymise
from tests.attacks.hospital_rows import CONTRACT, people_rows
from tests.experiment.test_riskschema import kept

N = 400


def named(n: int, seed: int) -> pd.DataFrame:
    rows = people_rows(n, seed)
    return rows.assign(id=[f"p{seed}_{i}" for i in range(n)])


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifth of the attacks of ``quick``: these tests are about the command, not about how sure one can be."""
    monkeypatch.setattr(attacking, "EFFORTS", {"quick": replace(QUICK, attacks=100)})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    text = yaml.safe_dump(CONTRACT.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
    (tmp_path / "contract.yaml").write_text(text, encoding="utf-8")
    named(N, 1).to_csv(tmp_path / "real.csv", index=False)
    named(N, 2).to_parquet(tmp_path / "reference.parquet", index=False)
    people_rows(N, 3).to_csv(tmp_path / "fresh.csv", index=False)
    made = anonymise(people_rows(N, 1), CONTRACT, k=3).generalised
    made.to_csv(tmp_path / "k3.csv", index=False)
    return tmp_path


def measure(folder: Path, *releases: str, **asked: Any) -> RiskReport:
    files = [folder / name for name in releases]
    options = {"attacks": "quick", **asked}
    return attack(folder / "real.csv", files, folder / "reference.parquet", **options)


def test_the_real_table_is_above_and_fresh_patients_are_not(folder: Path) -> None:
    people_rows(N, 1).to_csv(folder / "copy.csv", index=False)
    copy, fresh, _ = measure(folder, "copy.csv", "fresh.csv", source="raw").releases
    assert copy.verdict.state == "above"
    assert {f.attack for f in fresh.figures if f.interval.low > 0.09} <= {"reidentification"}


def test_a_table_with_ranges_is_anonymised_and_has_its_groups_counted(folder: Path) -> None:
    (found,) = measure(folder, "k3.csv").releases
    figures = {f.attack: f for f in found.figures}
    assert found.source == "anonymised"
    assert figures["reidentification"].success == pytest.approx(
        1 / figures["reidentification"].details["smallest_group"]
    )
    assert figures["exact_match"].success == 1.0  # rounding in the file hides nobody


def test_floor_and_ceilings_stand_beside_each_release_and_agree_with_it(folder: Path) -> None:
    found = measure(folder, "k3.csv")
    beside = {m.name: {f.attack: f for f in m.figures} for m in found.anchors[str(folder / "k3.csv")]}
    assert list(beside) == ["fresh patients", "k = 10", "k = 5", "k = 3", "real table"]
    mine = {f.attack: f for f in found.releases[0].figures}
    for name in ("inference", "linkability", "homogeneity", "group_inference", "reidentification", "density_ratio"):
        assert mine[name].success == pytest.approx(beside["k = 3"][name].success, abs=0.01), name


def test_several_releases_are_measured_alone_and_together(folder: Path) -> None:
    other = anonymise(pd.concat([people_rows(N, 1), people_rows(N, 7)], ignore_index=True), CONTRACT, k=3)
    other.generalised.to_csv(folder / "again.csv", index=False)
    report = measure(folder, "k3.csv", "again.csv")
    found = report.releases
    kept(report.as_json())
    assert [m.name for m in found] == [str(folder / "k3.csv"), str(folder / "again.csv"), "all releases together"]
    assert [f.attack for f in found[2].figures] == ["intersection"]
    hashes = {str(folder / n): hashlib.sha256((folder / n).read_bytes()).hexdigest() for n in ("k3.csv", "again.csv")}
    assert {**found[0].sha256, **found[1].sha256} == found[2].sha256 == hashes
    # who has both has each: nobody may read "below" where one alone is above
    assert found[0].verdict.state == found[2].verdict.state == "above"
    assert f"{folder / 'k3.csv'}, {folder / 'again.csv'} alone is above" in found[2].verdict.why


def test_all_together_are_no_better_than_a_synthetic_one_alone(folder: Path) -> None:
    def judged(name: str, source: str, state: str) -> Measured:
        return Measured(name, source, N, (), {}, Verdict(state, 0.0, 0.09, state))

    k3, again, copy = str(folder / "k3.csv"), str(folder / "again.csv"), str(folder / "copy.csv")
    anonymise(people_rows(N, 1), CONTRACT, k=5).generalised.to_csv(again, index=False)
    people_rows(N, 1).to_csv(copy, index=False)
    views = attacking._views([Path(k3), Path(again), Path(copy)], CONTRACT, None)
    assert [v.source for v in views.values()] == ["anonymised", "anonymised", "synthetic"]
    alone = [
        judged(k3, "anonymised", "below"),
        judged(again, "anonymised", "below"),
        judged(copy, "synthetic", "above"),
    ]
    real, outside = (table.assign(**{attacking.SITE: "h"}) for table in (named(N, 1), named(N, 2)))
    found = attacking._together(views, alone, attacking.people_of(real, outside, CONTRACT, 0), QUICK, ())
    assert set(found.sha256) == {k3, again}  # its figures are of the two tables of real rows
    assert found.verdict.state == "above"
    assert found.verdict.why.startswith(f"{copy} alone is above")


def test_the_same_seed_writes_the_same_document(folder: Path) -> None:
    def document(seed: int) -> dict[str, Any]:
        data = json.loads(json.dumps(measure(folder, "fresh.csv", seed=seed).as_json()))
        del data["timing"]
        return data  # type: ignore[no-any-return]

    first = document(5)
    assert document(5) == first
    assert document(6)["releases"] != first["releases"]
    assert first["schema_version"] == 2


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"attacks": "some"}, "--attacks: must be one of quick"),
    ({"source": "real"}, "--source: must be one of synthetic, anonymised, raw"),
]


@pytest.mark.parametrize(("asked", "line"), WRONG)
def test_what_can_not_be_asked_has_one_line(folder: Path, asked: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInput, match=line):
        measure(folder, "fresh.csv", **asked)


def test_a_plugin_that_can_not_be_imported_has_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"--plugin no_such_module: can't be imported \(ModuleNotFoundError"):
        measure(folder, "fresh.csv", plugins=["no_such_module"])
    (folder / "broken_attack.py").write_text("raise RuntimeError('half-written')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    with pytest.raises(BadInput, match="broken_attack: can't be imported .RuntimeError: half-written"):
        measure(folder, "fresh.csv", plugins=["broken_attack"])


def test_a_file_that_can_not_be_written_is_refused_before_the_measurement(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attacking, "attack", lambda *a, **k: pytest.fail("it was measured first"))
    asked = ["attack", "--real", "x.csv", "--reference", "y.csv", "--release", "z.csv", "--out"]
    for out, line in ((folder / "real.csv", "is there already"), (folder / "no" / "risk.json", "no folder")):
        assert cli.main([*asked, str(out)]) == 2
        assert line in capsys.readouterr().err


def test_a_release_that_does_not_fit_is_named_with_its_cells(folder: Path) -> None:
    people_rows(30, 3).astype({"age": "object"}).assign(age="old").to_csv(folder / "odd.csv", index=False)
    with pytest.raises(BadInput, match=r"odd\.csv: row 1: age: is no number, range"):
        measure(folder, "odd.csv")
    pd.DataFrame({"other": [1]}).to_csv(folder / "other.csv", index=False)
    with pytest.raises(BadInput, match="has fewer than two columns of the contract"):
        measure(folder, "other.csv")
    with pytest.raises(BadInput, match="there is no such file"):
        measure(folder, "nowhere.csv")


def test_reference_patients_must_not_be_the_real_ones(folder: Path) -> None:
    named(N, 1).to_parquet(folder / "reference.parquet", index=False)
    with pytest.raises(BadInput, match=r"400 of its patients are in --real too"):
        measure(folder, "fresh.csv")
    named(N, 1).assign(id=[f"q{i}" for i in range(N)]).to_parquet(folder / "reference.parquet", index=False)
    with pytest.raises(BadInput, match=r"400 of its 400 records are in --real too"):
        measure(folder, "fresh.csv")


def test_a_contract_without_roles_is_measured_as_far_as_it_goes(folder: Path) -> None:
    columns = [c.model_copy(update={"quasi_identifier": False, "sensitive": False}) for c in CONTRACT.columns]
    bare = CONTRACT.model_copy(update={"columns": tuple(columns)})
    (folder / "contract.yaml").write_text(yaml.safe_dump(bare.model_dump(mode="json")), encoding="utf-8")
    found = measure(folder, "fresh.csv")
    assert "quasi-identifier" in found.releases[0].not_run["group_inference"]
    assert set(found.left_out) == {"k = 10", "k = 5", "k = 3"}
    assert found.releases[0].verdict.state == "undecided"


def test_without_patient_ids_each_row_is_a_patient_and_the_report_says_so(folder: Path) -> None:
    columns = tuple(c for c in CONTRACT.columns if c.name != "id")
    bare = CONTRACT.model_copy(update={"columns": columns})
    (folder / "contract.yaml").write_text(yaml.safe_dump(bare.model_dump(mode="json")), encoding="utf-8")
    people_rows(N, 1).to_csv(folder / "real.csv", index=False)
    people_rows(N, 2).to_parquet(folder / "reference.parquet", index=False)
    found = measure(folder, "fresh.csv")
    assert found.people == {"members": N, "control": N // 2, "attacker": N // 2}
    assert found.releases[0].notes == (attacking.EACH_ROW,)


def test_what_too_few_patients_can_not_say_is_no_figure(folder: Path) -> None:
    named(40, 2).to_parquet(folder / "reference.parquet", index=False)
    found = measure(folder, "fresh.csv")
    released = found.releases[0]
    assert len(released.verdict.left_out) == len(released.figures)
    assert isinstance(released.verdict.figure, NotMeasured)
    text = risk.lines(found.as_json())
    assert not [line for line in text if line.startswith("Strongest")]
    rows = [line for line in text if line.startswith(("three columns", "one column"))]
    assert [line[48:50] for line in rows] == ["? ", "? "]
    assert "--attacks full" not in " ".join(text)  # all 20 control patients were attacked
    assert all(line.split()[-5:] == ["?"] * 5 for line in rows[1:])  # the ceilings as well
    assert all(f.success >= 0 for m in (released, *found.anchors[released.name]) for f in m.figures)


def test_a_quick_measurement_that_left_patients_out_says_that_a_full_one_would_not(folder: Path) -> None:
    found = measure(folder, "fresh.csv").as_json()  # 100 of 200 control patients
    assert found["releases"][0]["verdict"]["left_out"]
    assert "--attacks full attacks up to 2,000" in " ".join(risk.lines(found))


def test_the_command_prints_text_for_people_and_writes_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["attack", "--real", str(folder / "real.csv"), "--reference", str(folder / "reference.parquet")]
    asked += ["--release", str(folder / "k3.csv"), "--attacks", "quick"]
    assert cli.main([*asked, "--out", str(folder / "risk.json")]) == 0
    text = capsys.readouterr().out
    document = kept(json.loads((folder / "risk.json").read_text(encoding="utf-8")))
    assert text.splitlines() == risk.lines(document)
    assert "ABOVE a threshold" in text
    (strongest,) = [line for line in text.splitlines() if line.startswith("Strongest")]
    assert "(knows: all)" in strongest  # which attack it is, in words
    assert max(len(line) for line in text.splitlines()) <= 120 + len(str(folder))
    for word in (
        "How to read it",
        "Undecided is no acquittal",
        "set by no authority",
        "age, sex, ward",
        "pulse, lactate",
    ):
        assert word in " ".join(text.split())
    assert cli.main([*asked, "--out", str(folder / "risk.json")]) == 2
    capsys.readouterr()
    assert cli.main([*asked, "--format", "json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert {k: v for k, v in again.items() if k != "timing"} == {k: v for k, v in document.items() if k != "timing"}


def test_anybodys_attack_comes_in_by_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    protocol.attacks_for(protocol.View(CONTRACT))  # ours register before the copy is made
    monkeypatch.setattr(protocol, "_REGISTERED", dict(protocol._REGISTERED))  # other tests must not meet the coin
    (folder / "red_team_attack.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    found = measure(folder, "fresh.csv", plugins=["red_team_attack"])
    assert "coin" in {f.attack for f in found.releases[0].figures}
    assert "coin" in "\n".join(risk.lines(found.as_json()))


PLUGIN = """
import numpy as np
from pettoolkit.attacks.protocol import Hits, TableView, finding, register

@register
class Coin:
    name = "coin"
    sees = TableView
    knowledge = "none"

    def run(self, view, people, effort):
        rng = np.random.default_rng(effort.seed)
        mine, theirs = people.members.patient, people.control.patient
        hits = Hits(mine, rng.random(len(mine)) < .5, theirs, rng.random(len(theirs)) < .5)
        return [finding(self, "membership", hits, wanted=len(mine), seconds=0.0)]
"""
