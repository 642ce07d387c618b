"""Telling tables apart: by chance where they are alike, certainly where they are not, below chance for copies."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.evaluation.quality.distinguish import TOO_RARE, proxy_strength, told_apart
from pettoolkit.evaluation.quality.tables import Table, checked
from tests.evaluation.quality import toy

CONTRACT = toy.contract()


def table(frame: pd.DataFrame) -> Table:
    return Table.of(checked(frame, CONTRACT, "t", 1), CONTRACT)


def apart(first: pd.DataFrame, second: pd.DataFrame, seed: int = 0, trees: int = 20) -> tuple[float, float, float]:
    found = told_apart(table(first), table(second), CONTRACT, seed=seed, trees=trees, resamples=100)
    return found.value, found.interval.low, found.interval.high  # type: ignore[union-attr]


def test_intervals_of_tables_that_are_alike_hold_one_half() -> None:
    # Of 30 intervals with a true coverage of 95 % (90 %) at least 25 hold .5 but with a chance of .1 % (7 %).
    found = [apart(toy.patients(120, 2 * s), toy.patients(120, 2 * s + 1), s, trees=5) for s in range(30)]
    assert sum(low <= 0.5 <= high for _, low, high in found) >= 25
    assert np.mean([value for value, _, _ in found]) == pytest.approx(0.5, abs=0.04)


def test_shuffled_columns_are_told_apart() -> None:
    real = toy.patients(400, 0)
    value, low, _ = apart(toy.patients(400, 1), toy.shuffled(real, 0), trees=50)
    assert value > 0.7
    assert low > 0.6


def test_an_outcome_that_does_not_fit_its_row_is_told_apart() -> None:
    other = toy.patients(600, 1)
    other["y"] = toy.shuffled(other, 0)["y"]
    assert apart(toy.patients(600, 0), other, trees=50)[1] > 0.5


def test_copies_are_below_one_half() -> None:
    real = toy.patients(300, 0)
    assert apart(real, real, trees=50)[2] < 0.5


def test_a_proxy_is_found_and_the_attribute_itself_is_not_asked() -> None:
    rows = toy.patients(400, 0)
    plain = proxy_strength(table(rows), CONTRACT.column("sex"), CONTRACT, name="logistic", seed=0, trees=10)
    told = rows.assign(pulse=80 + 40 * rows["sex"])
    strong = proxy_strength(table(told), CONTRACT.column("sex"), CONTRACT, name="logistic", seed=0, trees=10)
    assert plain == pytest.approx(0.5, abs=0.1)
    assert strong > 0.95


def test_an_attribute_with_one_group_has_no_proxy() -> None:
    rows = table(toy.patients(100, 0).assign(sex=1.0))
    assert proxy_strength(rows, CONTRACT.column("sex"), CONTRACT, name="logistic", seed=0, trees=10) == TOO_RARE
