"""Nearest released rows: the distance is that of a slow loop, and on plain tables without gaps anonymeter's."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.attacks.statistics import Floats
from pettoolkit.attacks.tables import gower
from pettoolkit.attacks.tables.gower import MIDDLE, nearest
from pettoolkit.attacks.tables.released import Span, place, read_spans
from pettoolkit.synthesis.anonymise import anonymise
from tests.attacks.hospital_rows import COLUMNS, CONTRACT, people_rows


def slow_distance(values: Floats, spans: tuple[Span, ...], row: int) -> float:
    total = 0.0
    for value, span in zip(values, spans, strict=True):
        absent = np.isnan(value)
        total += float(not (span.missing[row] if absent else (~np.isnan(span.low[row]) if span.column.kind == "number"
                                                              else span.levels[row, int(value)])))  # fmt: skip
        if span.column.kind == "number":
            low, high = (np.nan_to_num(end[row], nan=MIDDLE) for end in (span.low, span.high))
            at = MIDDLE if absent else value
            total += max(low - at, at - high, 0.0)
    return total


@pytest.mark.parametrize("scope", ["plain", "quasi_identifiers", "all"])
def test_the_nearest_row_is_that_of_a_slow_loop(scope: str) -> None:
    rows, patients = people_rows(60, 1), people_rows(25, 2)
    table = rows if scope == "plain" else anonymise(rows, CONTRACT, k=4, scope=scope).generalised  # type: ignore[arg-type]
    spans = read_spans(table, COLUMNS)
    values = place(patients, COLUMNS)
    distance, row = nearest(values, spans)
    for i, patient in enumerate(values):
        slow = [slow_distance(patient, spans, j) for j in range(len(rows))]
        assert distance[i] == pytest.approx(min(slow), abs=2e-6)
        assert slow[row[i]] == pytest.approx(min(slow), abs=2e-6)


def test_a_copy_is_at_distance_zero_and_others_leave_it_out() -> None:
    rows = people_rows(50, 1)
    values, spans = place(rows, COLUMNS), read_spans(rows, COLUMNS)
    assert nearest(values, spans)[0].tolist() == [0.0] * 50
    distance, row = nearest(values, spans, others=True)
    assert (distance > 0).all()
    assert (row != np.arange(50)).all()


def test_in_blocks_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    values, spans = place(people_rows(40, 1), COLUMNS), read_spans(people_rows(70, 2), COLUMNS)
    whole = nearest(values, spans, others=True)
    monkeypatch.setattr(gower, "_CHUNK", 300)
    for a, b in zip(whole, nearest(values, spans, others=True), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow  # numba compiles anonymeter's search
def test_on_plain_tables_it_is_anonymeters_neighbour() -> None:
    import anonymeter.evaluators  # noqa: F401  (before neighbors: they import each other)
    from anonymeter.neighbors.mixed_types_kneighbors import MixedTypeKNeighbors

    columns = [CONTRACT.column(n) for n in ("pulse", "delay", "age", "sex")]
    released, patients = (place(people_rows(n, seed), columns) for n, seed in ((300, 1), (100, 2)))
    ends = np.array([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])  # anonymeter scales by the range that it sees
    released = np.concatenate([released, ends])
    table = pd.DataFrame(released, columns=["pulse", "delay", "age", "sex"])
    theirs = (
        MixedTypeKNeighbors(n_neighbors=1, n_jobs=1).fit(table).kneighbors(pd.DataFrame(patients, columns=list(table)))
    )
    spans = tuple(
        Span(c, released[:, j], released[:, j], np.zeros((len(table), 0), bool), np.zeros(len(table), bool))
        if c.kind == "number"
        else Span(
            c,
            np.full(len(table), np.nan),
            np.full(len(table), np.nan),
            released[:, [j]] == np.array([0, 1]),
            np.zeros(len(table), bool),
        )
        for j, c in enumerate(columns)
    )
    assert (nearest(patients, spans)[1] == theirs[:, 0]).mean() > 0.98  # ties in float32
