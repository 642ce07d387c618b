from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.physionet2019 import load_physionet2019

HOURS = 3
CONTRACT = Contract(
    name="test",
    grain="hour",
    landmark_hours=HOURS,
    columns=(
        Column(name="id", role="patient_id", kind="category"),
        Column(name="hr", low=30, high=200, summaries=("min", "max", "mean", "slope", "count")),
        Column(name="ward", kind="category", levels=("a", "b")),
        Column(name="unit", role="unit"),
        Column(name="hour", role="time"),
        Column(name="y", role="outcome", kind="binary"),
    ),
)


def slow_rows(hours: pd.DataFrame) -> pd.DataFrame:
    """One patient after the other, as one would write it down."""
    rows = []
    for identifier in dict.fromkeys(hours["id"]):
        stay = hours[hours["id"] == identifier].reset_index(drop=True)
        early = stay.iloc[:HOURS]
        if len(stay) <= HOURS or early["y"].max() == 1:
            continue
        seen = early["hr"].dropna()
        slope = np.polyfit(seen.index, seen, 1)[0] if len(seen) > 1 else np.nan
        wards = early["ward"].dropna()
        rows.append(
            {
                "id": identifier,
                "hr": seen.iloc[-1] if len(seen) else np.nan,
                "hr_min": seen.min(),
                "hr_max": seen.max(),
                "hr_mean": seen.mean(),
                "hr_slope": slope,
                "hr_count": float(len(seen)),
                "ward": wards.iloc[-1] if len(wards) else None,
                "unit": stay["unit"].iloc[0],
                "y": int(stay["y"].max()),
            }
        )
    return pd.DataFrame(rows, columns=[c.name for c in row_contract(CONTRACT).columns])


@st.composite
def stays(draw: st.DrawFn) -> pd.DataFrame:
    hour = st.tuples(
        st.one_of(st.just(np.nan), st.integers(30, 200).map(float)),
        st.sampled_from(["a", "b", None]),
        st.sampled_from([0, 0, 0, 1]),
    )
    patients = draw(st.lists(st.lists(hour, min_size=1, max_size=6), max_size=5))
    rows = [
        (number, hr, ward, float(number % 2), position, label)
        for number, patient in enumerate(patients)
        for position, (hr, ward, label) in enumerate(patient)
    ]
    frame = pd.DataFrame(rows, columns=["id", "hr", "ward", "unit", "hour", "y"])
    return frame.astype({"hr": float, "ward": object})


@given(stays())
def test_rows_equal_those_of_a_plain_loop(hours: pd.DataFrame) -> None:
    fast, slow = landmark_rows(hours, CONTRACT), slow_rows(hours)
    assert list(fast.columns) == list(slow.columns)
    pd.testing.assert_frame_equal(fast, slow, check_dtype=False, check_exact=False, atol=1e-9)


def test_later_hours_change_nothing_but_the_outcome() -> None:
    hours = pd.DataFrame(
        {"id": 1, "hr": [80.0, 90, 100, 190], "ward": "a", "unit": 0.0, "hour": range(4), "y": [0, 0, 0, 1]}
    )
    later = pd.concat([hours, hours.tail(1).assign(hr=31.0, ward="b", y=0)], ignore_index=True)
    first, second = landmark_rows(hours, CONTRACT), landmark_rows(later, CONTRACT)
    pd.testing.assert_frame_equal(first, second)
    assert first["hr"].tolist() == [100.0]
    assert first["y"].tolist() == [1]


def test_length_of_stay_is_no_column() -> None:
    assert "hour" not in [c.name for c in row_contract(CONTRACT).columns]


@pytest.mark.realdata
def test_counts_on_the_real_hospitals(physionet2019: Path) -> None:
    rows_of = load_physionet2019(physionet2019)
    counts = {site: (len(rows), round(100 * rows["SepsisLabel"].mean(), 2)) for site, rows in rows_of.items()}
    if sum(n for n, _ in counts.values()) > 31_074:
        pytest.skip("the counts are those of a fixed 80 % of PhysioNet's patients; these are others")
    assert counts == {"A": (15_698, 6.16), "B": (15_376, 3.80)}
    both = np.concatenate([rows["SepsisLabel"] for rows in rows_of.values()])
    assert len(both) == 31_074
    assert round(100 * both.mean(), 2) == 4.99
