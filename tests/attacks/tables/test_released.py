"""Released cells: what they say is read as it is meant, and containment is that of a slow loop."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pettoolkit.attacks.tables.released import Classes, Span, binned, matches, place, read_spans
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.anonymise import anonymise
from pettoolkit.synthesis.rows import from_unit, to_unit
from tests.attacks.hospital_rows import COLUMNS, CONTRACT, people_rows


def span(name: str, *cells: object) -> Span:
    (found,) = read_spans(pd.DataFrame({name: pd.Series(list(cells), dtype="object")}), [CONTRACT.column(name)])
    return found


@pytest.mark.parametrize("text", ["[60, 70]", "[60, 70[", "(60, 70]", "60-70", "60 - 70", "60~70", "[70, 60]"])
def test_ranges_are_read_in_the_forms_that_people_write(text: str) -> None:
    read = span("age", text)
    ends = from_unit(np.array([read.low[0], read.high[0]]), CONTRACT.column("age"))
    assert ends.tolist() == [60, 70]
    assert not read.missing[0]


def test_a_negative_range_is_not_a_difference() -> None:
    read = span("delay", "[-20, -5]", "-20--5", -20.0)
    column = CONTRACT.column("delay")
    want = to_unit(np.array([-20.0, -5.0]), column)
    np.testing.assert_allclose(read.low, [want[0]] * 3)
    np.testing.assert_allclose(read.high, [want[1], want[1], want[0]])


def test_an_open_range_reaches_to_the_public_bound() -> None:
    read = span("age", ">=90", "<30")
    assert from_unit(read.high[:1], CONTRACT.column("age")) == 100
    assert from_unit(read.low[1:], CONTRACT.column("age")) == 18


def test_sets_missing_and_suppressed_cells() -> None:
    read = span("ward", "north", "{south, east, new}", "missing or north", None, "*")
    assert read.levels.tolist() == [[1, 0, 0], [0, 1, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1]]
    assert read.missing.tolist() == [False, False, True, True, True]
    assert read.suppressed.tolist() == [False, False, False, False, True]
    assert span("sex", 0.0, "1", "{0, 1}", 0.5).levels.tolist() == [[1, 0], [0, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize(("name", "cell"), [("age", "old"), ("age", "[1, x]"), ("ward", "west"), ("sex", 2)])
def test_a_cell_that_is_nothing_of_the_contract_is_named(name: str, cell: object) -> None:
    with pytest.raises(BadInput, match=rf"row 2: {name}: is no .*\(got {str(cell)[:3].replace('[', '.')}"):
        span(name, *({"age": [40, cell], "ward": ["north", cell], "sex": [0, cell]}[name]))


def test_every_patient_is_allowed_by_the_anonymised_row_that_was_made_of_them() -> None:
    rows = people_rows(300, 1)
    for scope in ("quasi_identifiers", "all"):
        made = anonymise(rows, CONTRACT, k=4, scope=scope)  # type: ignore[arg-type]
        pairs = set()
        for patient, row in matches(place(rows, COLUMNS), read_spans(made.generalised, COLUMNS)):
            pairs |= set(zip(patient.tolist(), row.tolist(), strict=True))
        assert {(i, i) for i in range(300)} <= pairs


CELLS = {
    "age": st.sampled_from([40, 41, "[40, 60]", "[41, 41]", "missing or [50, 60]", "*", "missing"]),
    "sex": st.sampled_from([0, 1, "{0, 1}", 0.5, "*"]),
    "ward": st.sampled_from(["north", "{north, south}", "missing or {south, east, new}", None, "*"]),
}
VALUES = {
    "age": st.sampled_from([40.0, 41.0, 55.0, 60.0, 61.0, np.nan]),
    "sex": st.sampled_from([0.0, 1.0]),
    "ward": st.sampled_from(["north", "south", "east, new", None]),
}
MEANING = {
    40: {40}, 41: {41}, "[40, 60]": set(range(40, 61)), "[41, 41]": {41},
    "missing or [50, 60]": {None, *range(50, 61)}, "missing": {None}, None: {None},
    0: {0}, 1: {1}, "{0, 1}": {0, 1}, 0.5: {0, 1}, "north": {"north"}, "{north, south}": {"north", "south"},
    "missing or {south, east, new}": {None, "south", "east, new"},
}  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    patients=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=8),
    released=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=8),
)
def test_containment_is_that_of_a_slow_loop(
    patients: list[dict[str, object]], released: list[dict[str, object]]
) -> None:
    columns = [CONTRACT.column(n) for n in ("age", "sex", "ward")]

    def allows(cell: object, value: object) -> bool:
        known = None if value is None or value != value else value
        return cell == "*" or known in MEANING[cell]

    slow = {
        (i, j)
        for i, patient in enumerate(patients)
        for j, row in enumerate(released)
        if all(allows(row[c.name], patient[c.name]) for c in columns)
    }
    spans = read_spans(pd.DataFrame(released).astype("object"), columns)
    fast = [np.column_stack(pair) for pair in matches(place(pd.DataFrame(patients), columns), spans)]
    assert {(int(i), int(j)) for i, j in np.concatenate(fast)} == slow


@settings(max_examples=40, deadline=None)
@given(released=st.lists(st.fixed_dictionaries(CELLS), min_size=1, max_size=20))
def test_class_sizes_are_those_of_a_slow_count(released: list[dict[str, object]]) -> None:
    columns = [CONTRACT.column(n) for n in CELLS]
    classes = Classes.of(read_spans(pd.DataFrame(released).astype("object"), columns))
    slow = [sum(all(_alike(row[n], other[n]) for n in CELLS) for other in released) for row in released]
    assert classes.size[classes.of_row].tolist() == slow


def _alike(a: object, b: object) -> bool:
    """Cells are alike if they allow the same values."""
    return (MEANING.get(a, "*") if a != "*" else "*") == (MEANING.get(b, "*") if b != "*" else "*")


def test_matching_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from pettoolkit.attacks.tables import released

    rows = people_rows(120, 2)
    spans = read_spans(anonymise(rows, CONTRACT, k=5).generalised, COLUMNS)

    def found() -> set[tuple[int, int]]:
        parts = [np.column_stack(pair) for pair in matches(place(rows, COLUMNS), spans, 0.05)]
        return {(int(i), int(j)) for i, j in np.concatenate(parts)}

    whole = found()
    monkeypatch.setattr(released, "_CHUNK", 500)
    assert found() == whole


def test_near_ages_fall_into_one_public_bin_and_ranges_stay() -> None:
    columns = [CONTRACT.column("age")]
    values = place(pd.DataFrame({"age": [40.0, 41.0, 95.0]}), columns)
    moved, (near,) = binned(values, read_spans(pd.DataFrame({"age": [40.0, 95.0]}), columns), 8)
    assert moved[0] == moved[1] == near.low[0] == near.high[0] != moved[2]
    ranges = read_spans(pd.DataFrame({"age": ["[40, 50]"]}), columns)
    assert binned(values, ranges, 8)[1] == ranges
