from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.features import feature_names
from pettoolkit.cohort.landmark import row_contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput

LABEL = Column(name="label", role="outcome", kind="binary")


def contract(*columns: Column, **more: Any) -> Contract:
    return Contract(name="test", columns=(*columns, LABEL), **more)


def test_a_number_without_public_bounds_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match=r"age: low and high must be filled in .* would leak"):
        Column(name="age")


def test_bounds_the_wrong_way_round_are_refused() -> None:
    with pytest.raises(ValidationError, match="low must be below high"):
        Column(name="age", low=100, high=18)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.8), (0, 0.5), (-1, -0.5)])
def test_a_whole_number_needs_room_for_two(low: float, high: float) -> None:
    with pytest.raises(ValidationError, match="needs two whole numbers between low and high"):
        Column(name="x", low=low, high=high, integer=True)


def test_bounds_are_finite() -> None:
    with pytest.raises(ValidationError, match="must be finite"):
        Column(name="x", low=0, high=float("inf"))


def test_a_category_needs_levels() -> None:
    with pytest.raises(ValidationError, match="at least two public levels"):
        Column(name="ward", kind="category", levels=("a",))


@pytest.mark.parametrize(
    ("columns", "more", "message"),
    [
        ((LABEL,), {}, "columns listed twice: label"),
        ((Column(name="b", role="outcome", kind="binary"),), {}, "exactly one column must have role outcome"),
        ((), {"grain": "hour"}, "grain hour needs a column with role patient_id"),
        ((), {"split": {"by": "day", "cut": "2015-01-01"}}, "split.by: no column day"),
        ((), {"prevalence": 1.5}, "less than 1"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused(
    columns: tuple[Column, ...], more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        contract(*columns, **more)


def test_a_contract_file_names_the_line_of_each_blank_bound(tmp_path: Path) -> None:
    path = tmp_path / "contract.yaml"
    path.write_text("name: t\ncolumns:\n  - name: a\n    low:\n  - {name: y, role: outcome, kind: binay}\n")
    with pytest.raises(BadInput) as caught:
        parse(Contract, path)
    first, second = caught.value.lines
    assert first.startswith(f"{path}:3: columns.0: column a: low and high must be filled in")
    assert second == (
        f"{path}:5: columns.1.kind: must be one of number, binary, category (got binay; did you mean binary?)"
    )


def test_the_packaged_contract_has_the_features_that_are_expected() -> None:
    row = row_contract(builtin_contract("sepsis-hourly"))
    assert row.grain == "row"
    assert [c.name for c in row.columns if c.role == "time"] == []
    compact = row.select("compact")
    assert len(compact.feature_columns) == 22
    assert len(feature_names(compact)) == 22 + 19
    leaky = {"ICULOS", "Unit1", "Unit2", "SepsisLabel", "patient_id"}
    assert not leaky & {c.name for c in row.select("full").feature_columns}


def test_an_unknown_packaged_contract_gets_a_suggestion() -> None:
    with pytest.raises(BadInput, match=r"did you mean sepsis-hourly\?"):
        builtin_contract("sepsis-hourley")


def test_the_digest_follows_what_changes_numbers_and_nothing_else() -> None:
    first = contract(Column(name="age", low=18, high=100))
    assert first.digest() == contract(Column(name="age", low=18, high=100), title="other words").digest()
    assert first.digest() != contract(Column(name="age", low=18, high=101)).digest()
