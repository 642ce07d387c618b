import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import wasserstein_distance
from toy_table import CONTRACT, NAMES, people

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.anonymise import T_BINS, anonymise, partition
from pettoolkit.synthesis.cells import Cells

QUASI = ["Age", "Gender", "Ward"]


@settings(max_examples=50)
@given(st.integers(2, 120), st.integers(1, 4), st.integers(2, 12), st.integers(0, 10_000))
def test_no_group_is_smaller_than_k_and_no_more_than_k_can_be_cut(n, d, k, seed):
    rng = np.random.default_rng(seed)
    positions = np.round(rng.random((n, d)), 1)
    positions[rng.random((n, d)) < 0.2] = np.nan
    if n < k:
        return
    sizes = np.bincount(partition(positions, k))
    assert sizes.min() >= k
    assert sizes.sum() == n


def test_distinct_values_are_cut_until_groups_are_below_twice_k():
    sizes = np.bincount(partition(np.linspace(0, 1, 1000)[:, None], 5))
    assert sizes.max() < 10


@pytest.mark.parametrize("scope", ["quasi_identifiers", "all"])
@pytest.mark.parametrize("k", [2, 5, 10])
def test_the_released_table_has_k_alike_of_everybody(scope, k):
    out = anonymise(people(300), CONTRACT, k=k, scope=scope)
    columns = list(out.report.columns)

    for table in (out.generalised, out.rows):
        assert table.groupby(columns, dropna=False).size().min() >= k
    assert out.report.k == out.generalised.groupby(columns).size().min()
    assert out.report.groups == len(out.generalised.groupby(columns))


def test_groups_with_one_text_and_different_midpoints_are_not_counted_as_one():
    columns = tuple(c.model_copy(update={"integer": False}) if c.name == "Age" else c for c in CONTRACT.columns)
    ages = np.concatenate([np.full(5, 40.0), np.full(7, 40.00001)])
    real = people(12).assign(Age=ages, Gender=1.0, Ward="north")
    out = anonymise(real, Contract(name="c", columns=columns), k=5)
    assert set(out.generalised["Age"]) == {"40"}
    assert out.rows["Age"].nunique() == 2

    assert (out.report.k, out.report.groups) == (5, 2)
    assert out.report.k == out.rows.groupby(QUASI, dropna=False).size().min()


@pytest.mark.parametrize("scope", ["quasi_identifiers", "all"])
def test_diversity_and_closeness_agree_with_a_slow_computation(scope):
    columns = tuple(c.model_copy(update={"sensitive": c.name in ("Lactate", "HR")}) for c in CONTRACT.columns)
    contract, real = Contract(name="c", columns=columns), people(150)
    out = anonymise(real, contract, k=5, scope=scope)
    groups = list(out.rows.groupby(list(out.report.columns), dropna=False).indices.values())

    shares = [abs(real["Sepsis"].iloc[g].mean() - real["Sepsis"].mean()) for g in groups]
    assert out.report.t_closeness["Sepsis"] == pytest.approx(max(shares))
    assert out.report.l_diversity["Sepsis"] == min(real["Sepsis"].iloc[g].nunique() for g in groups)
    for name in {"Lactate", "HR"} & set(out.report.l_diversity):
        column = contract.column(name)
        cells = Cells.of(column, T_BINS)
        codes = cells.encode(real)
        places = np.arange(len(cells)) / (len(cells) - 1)
        moved = [wasserstein_distance(places[codes[g]], places[codes]) for g in groups]
        assert out.report.t_closeness[name] == pytest.approx(max(moved))
        assert out.report.l_diversity[name] == min(real[name].iloc[g].nunique(dropna=False) for g in groups)


def test_intervals_cover_the_patients_own_values():
    real = people(300)
    out = anonymise(real, CONTRACT, k=5, scope="all")
    for name in ("HR", "Lactate", "Age", "Delay"):
        for value, text, middle in zip(real[name], out.generalised[name], out.rows[name], strict=True):
            if np.isnan(value):
                assert text.startswith("missing")
                continue
            ends = [float(v) for v in re.findall(r"-?[\d.]+(?:e-?\d+)?", text)]
            tolerance = 1e-5 * abs(value) + 1e-6
            assert ends[0] - tolerance <= value <= ends[-1] + tolerance
            assert np.isnan(middle) or ends[0] - tolerance <= middle <= ends[-1] + tolerance


def test_sets_of_levels_name_the_patients_own_level():
    real = people(300)
    out = anonymise(real, CONTRACT, k=5)
    for value, text in zip(real["Ward"], out.generalised["Ward"], strict=True):
        assert ("missing" if value is None else value) in text


def test_columns_that_are_no_quasi_identifiers_and_the_outcome_stay():
    real = people(100)
    out = anonymise(real, CONTRACT, k=5)
    assert list(out.rows.columns) == NAMES
    for name in set(NAMES) - set(QUASI):
        pd.testing.assert_series_equal(out.rows[name], real[name])


def test_larger_k_gives_wider_intervals():
    widths = [sum(anonymise(people(400), CONTRACT, k=k).report.width.values()) for k in (2, 10, 50)]
    assert widths == sorted(widths)


def test_report_names_groups_that_agree_in_the_outcome():
    alike = people(60).assign(Age=40.0, Gender=1.0, Ward="north")
    alike.loc[:9, "Age"] = 90.0  # the ten oldest are all septic
    report = anonymise(alike, CONTRACT, k=10).report
    assert report.l_diversity == {"Sepsis": 1}
    assert report.t_closeness["Sepsis"] == pytest.approx(1 - 12 / 60)


def test_sensitive_columns_are_measured_unless_generalised():
    columns = tuple(c.model_copy(update={"sensitive": c.name == "Lactate"}) for c in CONTRACT.columns)
    contract = Contract(name="c", columns=columns)
    quasi = anonymise(people(200), contract, k=5).report
    assert quasi.l_diversity["Lactate"] >= 1
    assert 0 < quasi.t_closeness["Lactate"] < 1
    assert "Lactate" not in anonymise(people(200), contract, k=5, scope="all").report.l_diversity


def test_constant_and_all_missing_columns_are_no_error():
    out = anonymise(people(50).assign(HR=80.0, Lactate=np.nan), CONTRACT, k=5, scope="all")
    assert set(out.generalised.HR) == {"80"}
    assert set(out.generalised.Lactate) == {"missing"}
    assert out.rows.Lactate.isna().all()


def test_k_patients_become_one_group():
    assert anonymise(people(5), CONTRACT, k=5).report.groups == 1


@pytest.mark.parametrize("k", [-1, 0, 1])
def test_k_below_two_is_refused(k):
    with pytest.raises(BadInput, match="k must be at least 2"):
        anonymise(people(20), CONTRACT, k=k)


def test_a_hospital_smaller_than_k_is_refused():
    with pytest.raises(Refused, match="fewer than k = 5"):
        anonymise(people(4), CONTRACT, k=5)


def test_a_contract_without_quasi_identifiers_is_refused():
    columns = tuple(c.model_copy(update={"quasi_identifier": False}) for c in CONTRACT.columns)
    with pytest.raises(BadInput, match="no quasi-identifier"):
        anonymise(people(20), Contract(name="c", columns=columns), k=5)
