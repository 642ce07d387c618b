import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_table import CONTRACT, people

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.features import encode
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.rows import allocate, classes, from_unit, to_unit, violations

NUMBERS = [c for c in CONTRACT.feature_columns if c.kind == "number"]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.sampled_from([c for c in NUMBERS if not c.integer]))
def test_scale_and_back_is_the_identity(unit, column):
    assert to_unit(from_unit(np.array(unit), column), column) == pytest.approx(np.array(unit), abs=1e-9)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50), st.sampled_from(NUMBERS))
def test_the_scale_is_the_one_that_models_see(values, column):
    contract = CONTRACT.model_copy(update={"columns": (column.model_copy(update={"missing": "zero"}),)})
    encoded = encode(pd.DataFrame({column.name: values}), contract)[:, 0]

    assert 2 * to_unit(np.array(values), column) - 1 == pytest.approx(encoded, abs=1e-6)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.sampled_from(NUMBERS))
def test_whatever_the_unit_value_it_ends_within_the_bounds(unit, column):
    values = from_unit(np.array(unit), column)
    assert values.min() >= column.low
    assert values.max() <= column.high
    assert not column.integer or (values == np.rint(values)).all()


@given(st.integers(0, 500), st.lists(st.floats(0.01, 1), min_size=1, max_size=5))
def test_allocation_adds_up_and_is_within_one_of_proportional(n, shares):
    exact = n * np.array(shares) / sum(shares)
    got = allocate(n, np.array(shares))
    assert got.sum() == n
    assert np.abs(got - exact).max() < 1


def test_an_absent_column_is_named():
    with pytest.raises(BadInput, match="absent: Lactate"):
        classes(people(5).drop(columns="Lactate"), CONTRACT)


@pytest.mark.parametrize("bad", [np.nan, 2, -1])
def test_an_outcome_outside_the_classes_is_refused(bad):
    rows = people(5).astype({"Sepsis": float})
    rows.loc[3, "Sepsis"] = bad
    with pytest.raises(BadInput, match="Sepsis: an outcome is missing or no class"):
        classes(rows, CONTRACT)


def test_a_continuous_outcome_is_refused():
    columns = (Column(name="x", low=0, high=1), Column(name="y", role="outcome", low=0, high=1))
    with pytest.raises(BadInput, match="binary or category"):
        classes(pd.DataFrame({"x": [0.1], "y": [0.2]}), Contract(name="c", columns=columns))


def test_clean_rows_break_no_rule():
    assert set(violations(people(200), CONTRACT).values()) == {0}


def test_each_broken_rule_is_counted_once():
    rows = people(10)
    rows.loc[0, "HR"], rows.loc[1, "HR"] = 29.9, 201.0
    rows.loc[2, "Age"], rows.loc[3, "Age"] = 50.5, np.nan
    rows.loc[4, "Ward"], rows.loc[5, "Gender"] = "west", 2.0

    assert violations(rows, CONTRACT) == {
        "values out of bounds": 2,
        "not a whole number": 1,
        "unknown level": 2,
        "missing where never": 1,
    }


def test_pressures_out_of_order_are_counted_where_all_are_known():
    pressures = tuple(Column(name=n, low=0, high=300) for n in ("SBP", "MAP", "DBP"))
    contract = Contract(name="c", columns=(*pressures, Column(name="y", kind="binary", role="outcome")))
    rows = pd.DataFrame(
        {
            "SBP": [120, 120, 120, 60, np.nan],
            "MAP": [90, 130, 50, 70, 40],
            "DBP": [70, 70, 70, 80, 30],
            "y": [0, 0, 0, 1, 1],
        },
        dtype=float,
    )

    found = violations(rows, contract)

    assert found["MAP not between DBP and SBP"] == 3
    assert found["DBP above SBP"] == 1
