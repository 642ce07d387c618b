"""Distances are those of the slow, obvious computation, and each has the floor of two real halves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from pettoolkit.cohort.contract import Column
from pettoolkit.evaluation.quality import bivariate, univariate
from pettoolkit.evaluation.quality.distances import Draws, fidelities, ks, total_variation
from pettoolkit.evaluation.quality.mode import FULL, QUICK, Mode
from pettoolkit.evaluation.quality.tables import Coded
from pettoolkit.records import NotMeasured
from tests.evaluation.quality import toy

LAB = Column(name="x", low=0, high=10)
values = st.lists(st.sampled_from([0.0, 0.5, 1.0, 2.5, 7.0, float("nan")]), min_size=1, max_size=30)


def coded(first: list[float], second: list[float]) -> Coded:
    return Coded.of((pd.DataFrame({"x": first}), pd.DataFrame({"x": second})), LAB)


@given(values, values)
def test_ks_from_counts_is_scipys_on_the_values_that_are_there(first: list[float], second: list[float]) -> None:
    both = coded(first, second)
    found = ks(both.counts(0)[:-1], both.counts(1)[:-1])

    a, b = (np.array(v)[~np.isnan(v)] for v in (first, second))
    if len(a) and len(b):
        assert found == pytest.approx(ks_2samp(a, b).statistic)
    else:
        assert np.isnan(found)


@given(values, values)
def test_total_variation_from_counts_is_the_sum_over_levels(first: list[float], second: list[float]) -> None:
    both = coded(first, second)
    found = total_variation(both.counts(0)[:-1], both.counts(1)[:-1])

    a, b = (pd.Series(v).dropna() for v in (first, second))
    if len(a) and len(b):
        levels = set(a) | set(b)
        assert found == pytest.approx(sum(abs((a == v).mean() - (b == v).mean()) for v in levels) / 2)
    else:
        assert np.isnan(found)


@given(values)
def test_missing_values_are_counted_in_the_last_place(column: list[float]) -> None:
    counts = coded(column, [1.0]).counts(0)
    assert counts[-1] == np.isnan(column).sum()
    assert counts.sum() == len(column)


def test_halves_are_disjoint_and_as_large_as_the_synthetic_sample() -> None:
    draws = Draws.of(real_rows=101, synthetic_rows=70, size=50, times=8, seed=3)

    for (first, second), pick in zip(draws.halves, draws.picks, strict=True):
        assert len(first) == len(second) == len(pick) == len(set(pick)) == 50
        assert len(set(first) | set(second)) == 100
        assert pick.max() < 70
    assert len({tuple(first) for first, _ in draws.halves}) == 8


def test_the_halving_does_not_depend_on_the_synthetic_table() -> None:
    one, two = (Draws.of(100, rows, 50, 3, seed=1).halves for rows in (50, 900))
    assert all((a[0] == b[0]).all() and (a[1] == b[1]).all() for a, b in zip(one, two, strict=True))


def test_value_and_floor_compare_the_rows_that_were_drawn() -> None:
    tables = (np.arange(10.0), np.arange(100.0, 120.0))
    draws = Draws.of(10, 20, 5, 4, seed=0)

    def read(table: int, index: np.ndarray | None) -> float:
        return float(tables[table].mean() if index is None else tables[table][index].mean())

    (found,) = fidelities(read, lambda a, b: np.array([abs(a - b)]), draws, "no reason")

    floors = [abs(tables[0][a].mean() - tables[0][b].mean()) for a, b in draws.halves]
    values = [
        abs(tables[0][a].mean() - tables[1][p].mean()) for (a, _), p in zip(draws.halves, draws.picks, strict=True)
    ]
    assert found.floor == pytest.approx(np.mean(floors))
    assert found.floor_high == pytest.approx(np.quantile(floors, 0.95))
    assert found.value == pytest.approx(np.mean(values))
    assert found.all_rows == pytest.approx(abs(4.5 - 109.5))
    assert found.verdict == "beyond the floor"


def test_a_distance_that_does_not_exist_says_why() -> None:
    draws = Draws.of(10, 10, 5, 2, seed=0)
    (found,) = fidelities(lambda t, i: None, lambda a, b: np.array([np.nan]), draws, "nothing there")
    assert found.value == found.floor == found.all_rows == NotMeasured("nothing there")
    assert found.verdict == "not measured"
    assert found.excess == 0


@pytest.mark.parametrize("mode", [QUICK, FULL], ids=["quick", "full"])
def test_of_distances_between_like_patients_about_one_in_twenty_at_most_is_beyond_its_floor(mode: Mode) -> None:
    """Over 40 pairs of tables, whose distances hang together: with five halvings it is one in eight."""
    beyond: list[bool] = []
    for seed in range(40):
        real, made = toy.patients(400, 2 * seed), toy.patients(200, 2 * seed + 1)
        draws = Draws.of(400, 200, 200, mode.halvings, seed)
        found = [c.shape for c in univariate.columns(real, made, toy.contract(), draws)]
        found += [p.trend for p in bivariate.pairs(real, made, toy.contract(), draws)]
        beyond += [figure.verdict == "beyond the floor" for figure in found]
    assert np.mean(beyond) < 0.08
