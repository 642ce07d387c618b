"""`pettoolkit assess` and `pettoolkit release`: from documents to files, and what they refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pettoolkit import cli
from pettoolkit.errors import BadInput, Refused
from pettoolkit.experiment.assess import assess, release
from pettoolkit.report.standard import schema
from pettoolkit.report.standard.write import REPORTS
from tests.measured_tables import measured

ADA: dict[str, Any] = {"name": "Ada Lovelace", "email": "ada@example.org"}
FILES = sorted(f"{report}.{kind}" for report in REPORTS for kind in ("html", "json"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    measured().write(tmp_path)
    return tmp_path


def assessed(folder: Path, **asked: Any) -> list[Path]:
    options = {**ADA, **asked}
    return assess(folder / "quality.json", folder / "risk.json", folder / "out", **options)


def released(folder: Path, table: str = "made.csv", **asked: Any) -> list[Path]:
    options = {"declaration": folder / "quality.json", "risk": folder / "risk.json", **ADA, **asked}
    return release(folder / table, **options)


def label(folder: Path, table: str = "made.csv") -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / f"{table}.label.json").read_text(encoding="utf-8"))
    return found


def test_several_tables_get_their_reports_in_a_folder_each(folder: Path) -> None:
    found = assessed(folder)
    assert found == [folder / "out" / name / "summary.html" for name in ("made.csv", "copy.csv")]
    for summary in found:
        assert sorted(path.name for path in summary.parent.iterdir()) == FILES


def test_the_command_writes_one_tables_reports_into_the_folder_itself(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = {**measured().quality, "candidates": measured().quality["candidates"][:1]}
    (folder / "one.json").write_text(json.dumps(alone), encoding="utf-8")
    asked = ["assess", "--declaration", str(folder / "one.json"), "--out", str(folder / "out"), "--lang", "da"]
    assert cli.main([*asked, "--name", "Ada Lovelace", "--email", "ada@example.org"]) == 0
    assert capsys.readouterr().out == f"wrote {folder / 'out' / 'summary.html'}\n"
    found = json.loads((folder / "out" / "privacy.json").read_text(encoding="utf-8"))
    assert (found["language"], found["risk"]) == ("da", None)
    assert "Ikke målt" in (folder / "out" / "privacy.html").read_text(encoding="utf-8")


def test_settings_who_answers_and_answers_come_from_the_file(folder: Path) -> None:
    text = "generator: ctgan\nresponsible: {name: Ada, email: ada@example.org}\nanswers: {purpose: teaching}\n"
    (folder / "made.yaml").write_text(text, encoding="utf-8")
    (first, _) = assessed(folder, name=None, email=None, config=folder / "made.yaml")
    summary, checklist = (json.loads(first.with_name(n).read_text()) for n in ("summary.json", "checklist.json"))
    assert summary["responsible"] == {"name": "Ada", "email": "ada@example.org"}
    assert summary["settings"] == {
        "generator": "ctgan",
        "declare.mode": "quick",
        "declare.seed": "0",
        "attack.effort": "quick",
        "attack.seed": "0",
    }
    assert {i["id"]: i["answer"] for i in checklist["items"]}["purpose"] == "teaching"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"name": None}, "--name: nobody answers for the table"),
        ({"email": None}, "--email: nobody answers for the table"),
        ({"email": "ada"}, r"--email: must be an address like ada@example.org \(got ada\)"),
        ({"lang": "de"}, "--lang: must be one of en, da"),
    ],
)
def test_who_answers_must_be_named(folder: Path, asked: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        assessed(folder, **asked)
    with pytest.raises(BadInput, match=said):
        released(folder, **asked)
    assert not (folder / "out").exists()
    assert not list(folder.glob("*.label.*"))


def test_reports_are_never_written_over_others(folder: Path) -> None:
    assessed(folder)
    with pytest.raises(BadInput, match=r"summary\.json: is there already"):
        assessed(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("not json", "is no JSON; it must be what `pettoolkit attack --out` writes"),
        ('{"a": 1}', "is no document of `pettoolkit attack --out`"),
        ('{"releases": [], "schema_version": 99}', "schema_version 99 is newer than"),
    ],
)
def test_other_files_are_no_documents(folder: Path, text: str, said: str) -> None:
    (folder / "risk.json").write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=said):
        assessed(folder)


def test_the_label_lies_beside_the_table_and_names_it_by_its_hash(folder: Path) -> None:
    assert {path.name for path in released(folder)} == {"made.csv.label.json", "made.csv.label.html"}
    found = label(folder)
    jsonschema.validate(found, schema.schema("label"))
    assert found["table"] == {
        "name": "made.csv",
        "rows": 300,
        "sha256": hashlib.sha256((folder / "made.csv").read_bytes()).hexdigest(),
    }
    page = (folder / "made.csv.label.html").read_text(encoding="utf-8")
    assert found["table"]["sha256"] in page
    assert "Undecided" in page


def test_every_label_has_the_same_parts_in_the_same_order(folder: Path) -> None:
    released(folder)
    released(folder, "copy.csv", accept_risk="these patients are made up")
    assert list(label(folder)) == list(label(folder, "copy.csv"))
    titles = [
        [line for line in (folder / f"{name}.label.html").read_text().splitlines() if line.startswith("<h2")]
        for name in ("made.csv", "copy.csv")
    ]
    assert titles[0] == titles[1]
    assert len(titles[0]) == 3
    rows = [(folder / f"{name}.label.html").read_text().count('<th scope="row"') for name in ("made.csv", "copy.csv")]
    assert rows[0] == rows[1]


def test_a_reason_for_a_risk_that_is_not_above_would_be_a_false_statement(folder: Path) -> None:
    with pytest.raises(BadInput, match="--accept-risk: no attack got more than its threshold allows"):
        released(folder, accept_risk="just in case")
    assert not (folder / "made.csv.label.html").exists()


@pytest.mark.parametrize(("missing", "what"), [("declaration", "quality"), ("risk", "risk")])
def test_a_table_that_was_not_measured_is_refused(folder: Path, missing: str, what: str) -> None:
    with pytest.raises(Refused, match=rf"made\.csv: its {what} was not measured; no release without"):
        released(folder, **{missing: None})


def test_one_changed_byte_is_another_file(folder: Path) -> None:
    with (folder / "made.csv").open("ab") as file:
        file.write(b"\n")
    with pytest.raises(Refused, match=r"quality\.json says nothing about this file"):
        released(folder)


def test_documents_that_name_no_hash_are_not_enough(folder: Path) -> None:
    (folder / "risk.json").write_text(json.dumps({**measured().risk, "schema_version": 1}), encoding="utf-8")
    with pytest.raises(Refused, match=r"risk\.json says nothing about this file"):
        released(folder)


def test_a_risk_above_is_released_with_a_reason_only_which_stands_on_the_label(folder: Path) -> None:
    with pytest.raises(Refused, match="an attack got more than its threshold allows; not released"):
        released(folder, "copy.csv")
    with pytest.raises(BadInput, match="--accept-risk: say why"):
        released(folder, "copy.csv", accept_risk=" ")
    assert not list(folder.glob("*.label.*"))
    released(folder, "copy.csv", accept_risk="these <patients> are made up")
    page = (folder / "copy.csv.label.html").read_text(encoding="utf-8")
    assert "these &lt;patients&gt; are made up" in page
    assert "Above a threshold" in page
    assert label(folder, "copy.csv")["accepted_risk"] == "these <patients> are made up"


def test_the_command_refuses_with_exit_code_1_and_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["release", str(folder / "made.csv"), "--declaration", str(folder / "quality.json")]
    assert cli.main([*asked, "--name", "Ada", "--email", "ada@example.org"]) == 1
    assert "its risk was not measured" in capsys.readouterr().err


def test_a_document_that_lacks_parts_is_refused_with_their_names(folder: Path) -> None:
    quality = {**measured().quality, "candidates": [{"name": "made.csv", "rows": 3}]}
    del quality["halvings"]
    (folder / "thin.json").write_text(json.dumps(quality), encoding="utf-8")
    with pytest.raises(BadInput, match=r"thin\.json: is not what .* there is no halvings, candidates: bias, "):
        assess(folder / "thin.json", None, folder / "out", **ADA)
