"""Gaps between groups are those that a table by hand gives."""

from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.evaluation.quality.bias import FEWER_THAN_TWO, biases, odds_gap, rate_gap
from pettoolkit.evaluation.quality.tables import Table, checked
from pettoolkit.evaluation.quality.utility import FLOOR, REAL, SYNTHETIC, Answers
from pettoolkit.records import NotMeasured
from tests.evaluation.quality import toy

GROUP = np.repeat([0, 1, 2, -1], [20, 20, 5, 10])
"""Two groups, one that is too small, and patients of none."""


def test_demographic_parity_is_the_difference_of_shares_between_large_groups() -> None:
    decided = np.zeros(55, dtype=int)
    decided[:10] = 1  # half of group 0
    decided[20:22] = 1  # a tenth of group 1
    decided[40:] = 1  # all others, who don't count
    assert rate_gap(decided, GROUP, toy.contract(), 1.0) == pytest.approx(0.4)


def test_of_several_classes_the_largest_gap_counts() -> None:
    decided = np.zeros(55, dtype=int)
    decided[20:26], decided[26:40] = 1, 2
    assert rate_gap(decided, GROUP, toy.contract("classes"), 1.0) == pytest.approx(1.0)


def test_of_a_number_it_is_the_difference_of_means_in_standard_deviations() -> None:
    outcome = np.where(GROUP == 0, 3.0, 1.0)
    assert rate_gap(outcome, GROUP, toy.contract("number"), spread=4.0) == pytest.approx(0.5)


def test_equalised_odds_are_the_larger_of_two_gaps() -> None:
    y = np.tile([0, 1], 28)[:55]
    decided = y.copy()
    decided[np.flatnonzero((GROUP == 0) & (y == 1))[:3]] = 0  # true positive rate .7 against 1
    decided[np.flatnonzero((GROUP == 1) & (y == 0))[:1]] = 1  # false positive rate .1 against 0
    assert odds_gap(y, decided, GROUP, toy.contract()) == pytest.approx(0.3)


def test_one_large_group_has_no_gap() -> None:
    assert rate_gap(np.ones(30), np.repeat([0, 1], [25, 5]), toy.contract(), 1.0) == FEWER_THAN_TWO
    assert odds_gap(np.ones(30, dtype=int), np.ones(30, dtype=int), np.zeros(30, dtype=int), toy.contract()) == (
        FEWER_THAN_TWO
    )


def table(task: str, seed: int) -> Table:
    contract = toy.contract(task)
    return Table.of(checked(toy.patients(300, seed, task), contract, "t", 1), contract)


@pytest.mark.parametrize("task", ["binary", "classes", "number"])
def test_every_protected_attribute_is_measured_for_each_part(task: str) -> None:
    contract, test = toy.contract(task), table(task, 9)
    tables = {part: table(task, i) for i, part in enumerate((REAL, FLOOR, SYNTHETIC))}
    said: dict[str, Answers | None] = {
        part: Answers(test.y.astype(float), test.y if task != "number" else np.zeros(300, dtype=np.int64))
        for part in tables
    }
    said[SYNTHETIC] = None
    proxies = {part: dict.fromkeys(("age", "sex", "ward"), 0.5) for part in tables}

    found = {b.attribute: b for b in biases(tables, test, said, proxies, contract)}

    assert list(found) == ["age", "sex", "ward"]
    assert found["age"].groups == ("below 40", "40 to 59", "60 to 74", "75 and over")
    rates = [test.y[test.frame["sex"] == s].mean() for s in (0, 1)]
    if task == "binary":
        assert found["sex"].parity_gap.real == pytest.approx(abs(rates[0] - rates[1]))
        assert found["sex"].odds_gap.real == 0
    if task == "number":
        assert found["sex"].parity_gap.real == pytest.approx(abs(rates[0] - rates[1]) / test.y.std())
        assert found["sex"].odds_gap.real == NotMeasured("not defined for a continuous outcome")
    assert isinstance(found["sex"].parity_gap.synthetic, NotMeasured)
    y, sex = tables[SYNTHETIC].y, tables[SYNTHETIC].frame["sex"]
    if task == "binary":
        assert found["sex"].prevalence_gap.synthetic == pytest.approx(abs(y[sex == 0].mean() - y[sex == 1].mean()))
