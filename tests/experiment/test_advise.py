"""`pettoolkit advise`: what a person types, and an answer from runs that were really recorded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pettoolkit import cli
from pettoolkit.errors import BadInput
from pettoolkit.experiment import runner
from pettoolkit.experiment.advise import names, recorded, situation
from pettoolkit.experiment.cells import CellReport, Comparison
from pettoolkit.experiment.load import load
from tests import small_cohort as small

CONTRACT = """\
name: small
prevalence: 0.2
columns:
  - {name: patient, role: patient_id}
  - {name: age, low: 18, high: 100, integer: true, missing: never, quasi_identifier: true}
  - {name: sex, kind: binary, missing: never, quasi_identifier: true}
  - {name: lactate, low: 0.01, high: 100, log: true, sensitive: true}
  - {name: pulse, low: 0, high: 250}
  - {name: y, kind: binary, role: outcome}
"""
EXPERIMENT = """\
name: small
task: table-outcome
sites: {source: tables, path: DATA}
arms: [{arm: pooled, epochs: 3}, {arm: federated, rounds: 2}]
seeds: [0, 1, 2]
engine: inline
tracking: {dir: MLRUNS}
"""


@pytest.fixture
def experiment(tmp_path: Path, empty_database: Path) -> str:
    data, runs = tmp_path / "data", tmp_path / "mlruns"
    data.mkdir()
    runs.mkdir()
    shutil.copy(empty_database, runs)
    (data / "contract.yaml").write_text(CONTRACT)
    for site in small.SITES:
        small.rows(site, 120).to_csv(data / f"{site}.csv", index=False)
    path = tmp_path / "small.yaml"
    path.write_text(EXPERIMENT.replace("DATA", str(data)).replace("MLRUNS", str(runs)))
    return str(path)


def test_recorded_runs_are_judged_as_text_and_as_json(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", experiment]) == 0
    capsys.readouterr()

    told = ["--answer", "records_may_leave=no", "--margin", "0.4"]
    assert cli.main(["advise", experiment, *told, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert cli.main(["advise", experiment, *told]) == 0
    text = capsys.readouterr().out

    pooled, federated = found["technologies"]
    assert (pooled["status"], federated["status"]) == ("ruled out", "qualifies on conditions")
    assert federated["good_enough"]["state"] == "yes"
    assert federated["good_enough"]["seeds"] == 3
    assert found["situation"]["margin"] == 0.4
    assert found["least_risk"]["name"] is None
    assert "== RULED OUT\npooled logistic" in text


def test_before_a_run_there_is_nothing_to_judge(experiment: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["advise", experiment, "--answer", "phase=operation"]) == 2
    assert "no finished cell" in capsys.readouterr().err


def test_a_person_is_asked_nothing_where_nothing_was_recorded(
    experiment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(cli, "_ask", lambda question: pytest.fail(f"asked {question.key}"))
    assert cli.main(["advise", experiment]) == 2
    assert "no finished cell" in capsys.readouterr().err


def test_cells_of_another_version_are_named_as_such(experiment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old = CellReport(small.spec("pooled"), "missing", reason="RESULT_VERSION 2 -> 3")
    monkeypatch.setattr(runner, "show", lambda config: Comparison((old,), ()))
    with pytest.raises(BadInput, match="RESULT_VERSION 2 -> 3"):
        recorded(load(Path(experiment), ()))


def test_options_go_over_the_file_and_the_margin_over_both(tmp_path: Path) -> None:
    file = tmp_path / "situation.yaml"
    file.write_text("phase: operation\nmay_process: yes\nmargin: 0.1\n")
    found = situation(file, ["may_process=no", "max_risk=0.1"], margin=0.03)
    assert (found.phase, found.may_process, found.max_risk, found.margin) == ("operation", "no", 0.1, 0.03)


def test_wrong_answers_are_named_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "situation.yaml"
    file.write_text("phase: operation\nmay_process: perhaps\n")
    with pytest.raises(BadInput, match=r"situation\.yaml:2: may_process: "):
        situation(file)
    with pytest.raises(BadInput, match="--answer: phase: "):
        situation(None, ["phase=later"])
    with pytest.raises(BadInput, match="write it as KEY=VALUE"):
        situation(None, ["phase"])
    file.write_text("- a list\n")
    with pytest.raises(BadInput, match="keys with values"):
        situation(file)


def test_questions_are_asked_for_what_is_open_only() -> None:
    found = situation(None, question=lambda q: {"hospitals": "7", "phase": "hypothesis"}.get(q.key, ""))
    assert (found.hospitals, found.phase, found.may_process) == (7, "hypothesis", None)


def test_rows_that_differ_in_a_setting_only_are_told_apart_by_it() -> None:
    ten, twenty = small.spec("federated", rounds=10), small.spec("federated", rounds=20)
    assert names([small.spec("pooled"), ten, twenty]) == [
        "pooled logistic",
        "federated fedavg logistic, rounds 10",
        "federated fedavg logistic, rounds 20",
    ]
