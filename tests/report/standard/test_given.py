"""Both documents are paired by the hash of the table, never by chance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pettoolkit.errors import BadInput, Refused
from pettoolkit.report.standard import label
from pettoolkit.report.standard.given import Given, tables
from tests.report.standard.conftest import PEOPLE

Both = tuple[dict[str, Any], dict[str, Any]]


def test_tables_are_paired_by_hash_whatever_they_are_called(measured: Both) -> None:
    quality, risk = measured
    renamed = {**quality, "candidates": [{**c, "name": f"other_{i}"} for i, c in enumerate(quality["candidates"])]}
    made, copied = tables(renamed, risk, **PEOPLE)
    assert made.release is not None
    assert copied.release is not None
    assert (made.release["name"].rpartition("/")[2], copied.release["name"].rpartition("/")[2]) == (
        "made.csv",
        "copy.csv",
    )
    assert made.sha256 == made.release["sha256"][made.release["name"]]


def test_another_file_of_the_same_name_is_another_table(measured: Both) -> None:
    quality, risk = measured
    changed = {**quality, "candidates": [{**c, "sha256": "0" * 64} for c in quality["candidates"]]}
    with pytest.raises(BadInput, match="--risk: is about other tables than --declaration"):
        tables(changed, risk, **PEOPLE)


def test_several_releases_together_and_models_are_no_table(measured: Both) -> None:
    quality, risk = measured
    names = [entry["name"] for entry in risk["releases"]]
    assert "all releases together" in names
    assert [g.name for g in tables(None, risk, **PEOPLE)] == ["made.csv", "copy.csv"]
    assert [g.name for g in tables(quality, risk, **PEOPLE)] == ["made.csv", "copy.csv"]


@pytest.mark.parametrize("part", ["quality", "release"])
def test_there_is_no_label_without_both(made: Given, part: str) -> None:
    label.check(made)
    with pytest.raises(Refused, match=r"made\.csv: its (quality|risk) was not measured; no release without"):
        label.check(replace(made, **{part: None}))


def test_a_risk_above_is_released_only_with_a_reason(copied: Given) -> None:
    with pytest.raises(Refused, match="an attack got more than its threshold allows; not released"):
        label.check(copied)
    label.check(replace(copied, accepted_risk="the patients are made up"))
