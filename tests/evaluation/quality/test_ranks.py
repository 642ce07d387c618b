"""Kendall's tau is scipy's; real tables agree about models, shuffled ones don't."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from pettoolkit.evaluation.quality.ranks import NOT_ALL, Trial, agreement, configurations, kendall, trial
from pettoolkit.evaluation.quality.tables import Table, Task, checked
from tests.evaluation.quality import toy

scores = st.lists(st.sampled_from([0.5, 0.6, 0.7, 0.8, 0.9]), min_size=8, max_size=8)


@given(scores, scores)
def test_tau_is_scipys(first: list[float], second: list[float]) -> None:
    found, expected = kendall(np.array(first), np.array(second)), kendalltau(first, second).statistic
    assert found is None if np.isnan(expected) else found == pytest.approx(expected)


@pytest.mark.parametrize("task", ["binary", "classes", "number"])
def test_there_are_eight_configurations(task: Task) -> None:
    assert len(configurations(task, 0)) == 8


def tried(frame: pd.DataFrame, task: str = "binary") -> Trial:
    contract = toy.contract(task)
    return trial(Table.of(checked(frame, contract, "t", 1), contract), contract, 0)


@pytest.fixture(scope="module")
def real() -> tuple[Trial, Trial]:
    return tried(toy.patients(500, 0)), tried(toy.patients(500, 1))


def test_a_table_agrees_fully_with_itself(real: tuple[Trial, Trial]) -> None:
    found = agreement(real[0], real[1], real[0], toy.contract(), 100)
    assert found.tau.value == found.same_models.value == 1
    assert found.same_best
    assert found.on_real == found.on_synthetic


def test_fresh_patients_agree_as_much_as_the_floor(real: tuple[Trial, Trial]) -> None:
    found = agreement(*real, tried(toy.patients(500, 2)), toy.contract(), 100)
    assert found.tau.value > 0.2
    assert found.floor.value > 0.2
    assert np.abs(np.array(found.on_synthetic) - found.on_real).max() < 0.15
    assert len(found.configurations) == len(found.on_real) == 8
    assert found.test_rows == 150


def test_shuffled_columns_can_not_rank_models(real: tuple[Trial, Trial]) -> None:
    made = tried(toy.shuffled(toy.patients(500, 2), 0))
    found = agreement(*real, made, toy.contract(), 100)
    assert found.tau.value < found.floor.value
    assert max(found.on_synthetic) < min(found.on_real)


def test_one_class_ranks_nothing(real: tuple[Trial, Trial]) -> None:
    found = agreement(*real, tried(toy.patients(500, 2).assign(y=0.0)), toy.contract(), 100)
    assert found.tau == NOT_ALL
    assert found.on_synthetic == ()
    assert not found.same_best
