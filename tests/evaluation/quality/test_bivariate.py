"""Pairs of columns: equal to sdmetrics and to pandas, at the floor for real rows, and bad for shuffled columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.cohort.contract import Contract
from pettoolkit.evaluation.quality.bivariate import correlations, pairs
from pettoolkit.evaluation.quality.distances import Draws
from pettoolkit.evaluation.quality.figures import PairQuality
from pettoolkit.evaluation.quality.tables import checked
from pettoolkit.records import NotMeasured
from pettoolkit.synthesis.rows import to_unit
from tests.evaluation.quality import toy

CONTRACT = toy.contract()


def compared(
    real: pd.DataFrame, made: pd.DataFrame, seed: int = 0, contract: Contract = CONTRACT
) -> dict[tuple[str, str], PairQuality]:
    real, made = (checked(t, contract, "t", 1) for t in (real, made))
    draws = Draws.of(len(real), len(made), min(len(real) // 2, len(made)), 20, seed)
    return {(p.first, p.second): p for p in pairs(real, made, contract, draws)}


def scaled(table: pd.DataFrame, name: str) -> np.ndarray:
    values = table[name].to_numpy()
    return np.where(np.isnan(values), np.nan, to_unit(np.nan_to_num(values), CONTRACT.column(name)))


def test_correlations_are_pandas_over_the_rows_that_have_both() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((60, 5))
    x[rng.random(x.shape) < 0.3] = np.nan
    x[:, 4] = 0.25

    r, n = correlations(x)

    expected = pd.DataFrame(x).corr().to_numpy()
    np.testing.assert_allclose(r[:4, :4], expected[:4, :4], atol=1e-12)
    assert np.isnan(r[4]).all()
    assert n[0, 1] == (~np.isnan(x[:, 0]) & ~np.isnan(x[:, 1])).sum()


def test_two_numbers_are_compared_as_sdmetrics_does_on_the_contracts_scale() -> None:
    from sdmetrics.column_pairs import CorrelationSimilarity

    real, made = toy.patients(300, 0), toy.shuffled(toy.patients(200, 1), 0)
    found = compared(real, made)

    for pair in (("pulse", "pressure"), ("lactate", "pulse"), ("age", "lactate")):
        first, second = (pd.DataFrame({n: scaled(t, n) for n in pair}) for t in (real, made))
        assert found[pair].trend.all_rows == pytest.approx(1 - CorrelationSimilarity.compute(first, second))
        assert found[pair].real == pytest.approx(first.corr().iloc[0, 1])


def test_two_columns_of_levels_are_compared_as_sdmetrics_does() -> None:
    from sdmetrics.column_pairs import ContingencySimilarity

    real, made = toy.patients(300, 0), toy.patients(200, 1)
    real.loc[:20, "ward"] = None
    found = compared(real, made)

    for pair in (("sex", "ward"), ("ward", "y"), ("sex", "y")):
        expected = 1 - ContingencySimilarity.compute(real[list(pair)], made[list(pair)])
        assert found[pair].trend.all_rows == pytest.approx(expected)


def test_a_number_with_levels_is_a_table_of_deciles_with_missing_as_one_more() -> None:
    real, made = toy.patients(300, 0), toy.patients(200, 1)
    edges = np.unique(np.nanquantile(real["lactate"], np.arange(0.1, 0.95, 0.1)))

    def table(frame: pd.DataFrame) -> pd.Series:
        bins = np.where(frame["lactate"].isna(), -1, np.searchsorted(edges, frame["lactate"]))
        return pd.DataFrame({"bin": bins, "y": frame["y"]}).value_counts(normalize=True)

    expected = table(real).sub(table(made), fill_value=0).abs().sum() / 2
    assert compared(real, made)["lactate", "y"].trend.all_rows == pytest.approx(expected)


def test_fresh_real_rows_are_within_their_floor() -> None:
    # 10 tables x 22 figures, each beyond its floor with a chance of at most 5 %; pairs of one table depend on each
    # other, so that twice the expected 11 is allowed.
    beyond = sum(
        figure.verdict == "beyond the floor"
        for seed in range(10)
        for p in compared(toy.patients(400, 2 * seed), toy.patients(400, 2 * seed + 1), seed).values()
        for figure in (p.trend, p.missing_together)
    )
    assert beyond <= 22


def test_shuffled_columns_are_far_beyond_the_floor_where_columns_hang_together() -> None:
    real = toy.patients(600, 0)
    found = compared(real, toy.shuffled(real, 0))

    strong = found["pulse", "pressure"]
    assert strong.trend.value > 5 * strong.trend.floor_high
    assert abs(strong.synthetic) < 0.15 < 0.7 < abs(strong.real)
    assert found["lactate", "y"].trend.verdict == "beyond the floor"
    assert found["age", "sex"].trend.verdict == "within the floor"


def test_missing_together_is_seen() -> None:
    real = toy.patients(600, 0)
    real["pulse"] = real["pulse"].where(real["lactate"].notna())
    made = real.assign(pulse=toy.shuffled(real, 0)["pulse"])

    gap = compared(real, made)["lactate", "pulse"].missing_together
    assert gap.value == pytest.approx(0.5, abs=0.06)
    assert gap.verdict == "beyond the floor"


def test_a_constant_column_has_no_trend_if_it_is_real_and_a_lost_one_if_it_is_synthetic() -> None:
    real, made = toy.patients(200, 0), toy.patients(200, 1)
    assert isinstance(compared(real.assign(pulse=80.0), made)["pulse", "pressure"].trend.value, NotMeasured)

    lost = compared(real, made.assign(pulse=80.0))["pulse", "pressure"]
    assert lost.trend.value == pytest.approx(abs(lost.real) / 2, abs=0.05)


def test_an_all_missing_column_is_a_lost_trend() -> None:
    found = compared(toy.patients(200, 0), toy.patients(200, 1).assign(pulse=np.nan))
    assert found["pulse", "pressure"].trend.verdict == "beyond the floor"
    assert found["sex", "pulse"].trend.all_rows == pytest.approx(1)


def test_a_copy_has_no_distance_over_all_rows() -> None:
    real = toy.patients(200, 0)
    assert max(p.trend.all_rows for p in compared(real, real.copy()).values()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("task", ["classes", "number"])
def test_every_kind_of_outcome_is_paired_with_every_column(task: str) -> None:
    found = compared(toy.patients(200, 0, task), toy.patients(200, 1, task), contract=toy.contract(task))
    assert len(found) == 21
    assert found["pulse", "y"].measure == ("correlation" if task == "number" else "contingency")
