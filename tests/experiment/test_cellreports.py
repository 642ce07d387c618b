"""A cell gets its standard reports as it finishes, if both parts were measured and somebody answers for the table."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from pettoolkit.errors import BadInput
from pettoolkit.experiment.cellreports import cell_files
from pettoolkit.experiment.config import ResponsibleKeys
from pettoolkit.experiment.execute import Executed, execute
from pettoolkit.experiment.load import load
from pettoolkit.experiment.released import MARK, TABLE
from pettoolkit.records import AttackFigure, Interval, MeasuredRisk, NotMeasured, Verdict
from pettoolkit.report.standard import schema, write
from tests import small_cohort as small

ADA = ResponsibleKeys(name="Ada Lovelace", email="ada@example.org")
REPORTS = {f"reports/{report}.{kind}" for report in write.REPORTS for kind in ("html", "json")}


@cache
def executed(attacks: str = "none") -> Executed:
    with small.grid(small.hospitals()) as grid:
        return execute(grid, replace(small.spec("anonymised"), attacks=attacks), "hash")


@cache
def attacked() -> Executed:
    """As if attacked: attacks take ten times as long as all else."""
    low = np.float64(0.2)  # what is measured in this process comes in NumPy's types
    figure = AttackFigure(
        "near_match", "membership", "release", "full", 0.4, 0.1, 0.33, Interval(low, 0.5), 90, 100, 90, 1.0
    )
    verdict = Verdict("above", 0.33, 0.09, "near_match membership 0.33 (at least 0.20) is above 0.09")
    done = executed()
    privacy = replace(done.result.privacy, measured=MeasuredRisk((figure,), {}, verdict, verdict))
    return replace(done, result=replace(done.result, privacy=privacy))


def reports(done: Executed, responsible: ResponsibleKeys = ADA) -> set[str]:
    return {name for name in cell_files(done, responsible) if name.startswith("reports/")}


def check(done: Executed) -> None:
    files = cell_files(done, ADA)
    assert {TABLE, MARK, "declaration.json"} | REPORTS == set(files)
    for report in write.REPORTS:
        found = json.loads(files[f"reports/{report}.json"])
        jsonschema.validate(found, schema.schema(report))
        assert found["responsible"] == {"name": "Ada Lovelace", "email": "ada@example.org"}
    summary = json.loads(files["reports/summary.json"])
    assert (summary["settings"]["arm"], summary["settings"]["options.k"]) == ("anonymised", "3")
    measured = done.result.privacy.measured
    assert not isinstance(measured, NotMeasured)
    assert summary["risk"]["verdict"]["state"] == measured.verdict_release.state


def test_a_table_that_was_declared_and_attacked_gets_all_four_reports() -> None:
    check(attacked())


@pytest.mark.slow
def test_so_does_one_that_was_really_attacked() -> None:
    check(executed("quick"))


@pytest.mark.parametrize("who", [ResponsibleKeys(), ResponsibleKeys(name="Ada"), ResponsibleKeys(email="a@b.c")])
def test_there_are_none_where_nobody_answers(who: ResponsibleKeys) -> None:
    assert reports(attacked(), who) == set()


def test_there_are_none_where_one_part_was_not_measured_or_there_is_no_table() -> None:
    done = attacked()
    privacy = replace(done.result.privacy, measured=NotMeasured("no attacks were run"))
    assert reports(replace(done, result=replace(done.result, privacy=privacy))) == set()
    assert reports(replace(done, files={})) == set()
    assert reports(replace(done, table=None)) == set()


def test_an_address_that_is_none_is_said_before_anything_runs(tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text("name: one\narms: [{arm: pooled}]\nresponsible: {name: Ada, email: ada}\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"one\.yaml:3: responsible\.email: must be an address like ada@example\.org"):
        load(str(file), ())
