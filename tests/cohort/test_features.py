from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.features import encode, feature_names, outcome

ANY = st.one_of(st.none(), st.floats(allow_nan=False))
CONTRACT = Contract(
    name="test",
    columns=(
        Column(name="age", low=18, high=100, integer=True, missing="never"),
        Column(name="lactate", low=0.2, high=30, log=True),
        Column(name="admitted", low=-2000, high=0, log=True, missing="zero"),
        Column(name="female", kind="binary"),
        Column(name="ward", kind="category", levels=("a", "b")),
        Column(name="ignored", low=0, high=1, features="none"),
        Column(name="y", role="outcome", kind="binary"),
    ),
)
NAMES = feature_names(CONTRACT)


def rows(**values: object) -> pd.DataFrame:
    """One row; what is not named is in the middle."""
    row = {"age": 50.0, "lactate": 2.0, "admitted": -10.0, "female": 0.0, "ward": "a", "ignored": 0.5, "y": 0} | values
    return pd.DataFrame([row])


def encoded(name: str, **values: object) -> float:
    return float(encode(rows(**values), CONTRACT)[0, NAMES.index(name)])


def test_values_come_first_then_indicators_of_the_columns_that_have_one() -> None:
    values = ("age", "lactate", "admitted", "female", "ward=a", "ward=b")
    assert (*values, "lactate?", "female?", "ward?") == NAMES


@given(ANY, ANY, ANY, st.sampled_from([0.0, 1.0, None]), st.sampled_from(["a", "b", None, "unknown"]))
def test_everything_is_finite_and_within_one(
    age: float | None, lactate: float | None, admitted: float | None, female: float | None, ward: str | None
) -> None:
    frame = pd.DataFrame(
        {"age": [age], "lactate": [lactate], "admitted": [admitted], "female": [female], "ward": [ward], "y": [0]}
    )
    frame = frame.astype({"age": float, "lactate": float, "admitted": float, "female": float})
    matrix = encode(frame, CONTRACT)
    assert matrix.dtype == np.float32
    assert matrix.shape == (1, len(NAMES))
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() <= 1


@pytest.mark.parametrize("name", ["lactate", "female"])
def test_a_missing_value_is_zero_and_sets_its_indicator(name: str) -> None:
    assert encoded(name, **{name: np.nan}) == 0
    assert encoded(f"{name}?", **{name: np.nan}) == 1
    assert encoded(f"{name}?", **{name: 1.0}) == 0


def test_a_missing_category_has_no_level_and_sets_its_indicator() -> None:
    assert [encoded(n, ward=None) for n in ("ward=a", "ward=b", "ward?")] == [0, 0, 1]
    assert [encoded(n, ward="b") for n in ("ward=a", "ward=b", "ward?")] == [0, 1, 0]


@given(st.sampled_from(["age", "lactate", "admitted"]), st.floats(-3000, 3000), st.floats(-3000, 3000))
def test_the_encoding_is_monotone(name: str, first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert encoded(name, **{name: low}) <= encoded(name, **{name: high})


@pytest.mark.parametrize(("name", "low", "high"), [("age", 18, 100), ("lactate", 0.2, 30), ("admitted", -2000, 0)])
def test_the_bounds_are_minus_one_and_one_and_values_beyond_are_clipped(name: str, low: float, high: float) -> None:
    ends = [encoded(name, **{name: v}) for v in (low - 1, low, high, high + 1)]
    assert ends == pytest.approx([-1, -1, 1, 1], abs=1e-6)


def test_a_log_column_puts_equal_ratios_at_equal_distances() -> None:
    at = [encoded("lactate", lactate=v) for v in (1.0, 2.0, 4.0)]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=1e-6)


def test_a_signed_log_column_spreads_what_is_near_zero() -> None:
    near = encoded("admitted", admitted=0.0) - encoded("admitted", admitted=-10.0)
    far = encoded("admitted", admitted=-1000.0) - encoded("admitted", admitted=-1010.0)
    assert near > 50 * far > 0


def test_whole_numbers_are_rounded() -> None:
    assert encoded("age", age=63.4) == encoded("age", age=63.0)


def test_nothing_is_fitted_on_the_rows() -> None:
    many = pd.concat([rows(age=a, lactate=v) for a, v in [(20.0, 1.0), (90.0, 25.0), (50.0, np.nan)]])
    alone = np.vstack([encode(many.iloc[[i]], CONTRACT) for i in range(3)])
    np.testing.assert_array_equal(encode(many, CONTRACT), alone)


def test_an_all_missing_column_is_encoded() -> None:
    frame = pd.concat([rows(lactate=np.nan)] * 3)
    assert encode(frame, CONTRACT)[:, NAMES.index("lactate?")].tolist() == [1, 1, 1]


def test_the_outcome_is_float32() -> None:
    assert outcome(rows(y=1), CONTRACT).dtype == np.float32
