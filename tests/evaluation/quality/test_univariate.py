"""Columns by themselves: sdmetrics agrees, real rows are at their floor, and what differs is beyond it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pettoolkit.evaluation.quality.distances import Draws
from pettoolkit.evaluation.quality.figures import ColumnQuality
from pettoolkit.evaluation.quality.tables import checked
from pettoolkit.evaluation.quality.univariate import columns, overall
from pettoolkit.records import NotMeasured
from tests.evaluation.quality import toy

CONTRACT = toy.contract()


def compared(real: pd.DataFrame, made: pd.DataFrame, seed: int = 0) -> dict[str, ColumnQuality]:
    real, made = (checked(t, CONTRACT, "t", 1) for t in (real, made))
    draws = Draws.of(len(real), len(made), min(len(real) // 2, len(made)), 20, seed)
    return {c.name: c for c in columns(real, made, CONTRACT, draws)}


def test_distances_of_all_rows_are_those_of_sdmetrics() -> None:
    from sdmetrics.single_column import KSComplement, TVComplement

    real, made = toy.patients(400, 0), toy.patients(300, 1).assign(sex=1.0)
    found = compared(real, made)

    for name in ("age", "lactate", "pulse"):
        assert found[name].shape.all_rows == pytest.approx(1 - KSComplement.compute(real[name], made[name]))
    for name in ("sex", "ward", "y"):
        assert found[name].shape.all_rows == pytest.approx(1 - TVComplement.compute(real[name], made[name]))


def test_fresh_real_rows_are_within_their_floor() -> None:
    # 20 tables x 14 figures; each is beyond its floor with a chance of at most 5 %: more than 28 of 280 beyond is
    # a chance of 3 in 10,000.
    beyond = sum(
        figure.verdict == "beyond the floor"
        for seed in range(20)
        for c in compared(toy.patients(400, 2 * seed), toy.patients(400, 2 * seed + 1), seed).values()
        for figure in (c.shape, c.missing)
    )
    assert beyond <= 28


def test_a_copy_has_no_distance_over_all_rows() -> None:
    real = toy.patients(200, 0)
    assert {c.shape.all_rows for c in compared(real, real.copy()).values()} == {0.0}
    assert {c.missing.all_rows for c in compared(real, real.copy()).values()} == {0.0}


def test_what_is_shifted_or_never_missing_is_beyond_the_floor() -> None:
    made = toy.patients(400, 1)
    found = compared(toy.patients(400, 0), made.assign(pulse=made["pulse"] + 30, lactate=made["lactate"].fillna(1)))

    assert found["pulse"].shape.verdict == "beyond the floor"
    assert found["pulse"].shape.value > 0.5
    assert found["lactate"].missing.value == pytest.approx(found["lactate"].missing_real, abs=0.03)
    assert found["lactate"].missing.verdict == "beyond the floor"
    assert (found["age"].shape.verdict, found["age"].missing.verdict) == ("within the floor", "within the floor")


def test_a_column_without_values_has_missingness_and_no_shape() -> None:
    found = compared(toy.patients(100, 0), toy.patients(100, 1).assign(lactate=np.nan))["lactate"]
    assert isinstance(found.shape.value, NotMeasured)
    assert found.missing_synthetic == 1.0
    assert found.missing.verdict == "beyond the floor"


def test_a_constant_column_is_compared_like_any_other() -> None:
    real, made = toy.patients(100, 0).assign(pulse=80.0), toy.patients(100, 1)
    assert compared(real, made.assign(pulse=80.0))["pulse"].shape.value == 0
    assert compared(toy.patients(100, 0), made.assign(pulse=0.0))["pulse"].shape.value == 1


def test_histograms_hold_shares_of_the_values_that_are_there() -> None:
    found = compared(toy.patients(300, 0), toy.patients(300, 1))
    lactate, ward = found["lactate"].histogram, found["ward"].histogram

    assert len(lactate.edges) == len(lactate.real) + 1
    assert sum(lactate.real) == pytest.approx(1)
    assert ward.levels == toy.WARDS
    assert ward.real[0] == pytest.approx((toy.patients(300, 0)["ward"] == "medical").mean())


def test_the_mean_is_over_what_is_measured() -> None:
    found = compared(toy.patients(100, 0), toy.patients(100, 1).assign(lactate=np.nan))
    every = overall([c.shape for c in found.values()])
    assert every.measured == 6
    assert every.mean == pytest.approx(np.mean([c.shape.value for n, c in found.items() if n != "lactate"]))
