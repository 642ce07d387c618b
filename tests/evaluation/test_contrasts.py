"""Paired differences over patients and seeds, and many at once: what is claimed is rarely false."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pettoolkit.evaluation.contrasts import Contrast, combined, contrast, differences_by_seed, holm
from pettoolkit.evaluation.intervals import paired_auroc, resampled_sites
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import Interval, NotMeasured

SITES = ("north", "south")


def run(seed: int, shift: float, patients: int = 300) -> dict[str, SitePredictions]:
    """Scores that see the outcome by ``shift`` standard deviations; the noise is the same for every shift."""
    made = {}
    for i, site in enumerate(SITES):
        rng = np.random.default_rng([seed, i])
        y = (np.arange(patients) % 10 == 0).astype(np.int8)
        score = 1 / (1 + np.exp(-(rng.normal(size=patients) + shift * y)))
        made[site] = SitePredictions(np.arange(patients), y, score.astype(np.float32))
    return made


def test_an_arm_does_not_differ_from_itself() -> None:
    arm = [run(0, 1.0), run(1, 1.0)]
    drawn = resampled_sites(arm, SITES)
    found = contrast(arm, arm, drawn, drawn)
    assert isinstance(found, Contrast)
    assert (found.value, found.error, found.p) == (0, 0, 1)


def test_it_is_the_paired_difference_with_the_seeds_added() -> None:
    a, b = [run(s, 1.2) for s in range(3)], [run(s, 0.4) for s in range(3)]
    found = contrast(a, b, resampled_sites(a, SITES), resampled_sites(b, SITES))
    paired = paired_auroc(a, b, SITES)
    assert isinstance(found, Contrast)
    assert not isinstance(paired, NotMeasured)
    assert not isinstance(paired.mean.interval, NotMeasured)
    assert found.value == pytest.approx(paired.mean.value)
    assert found.value == pytest.approx(differences_by_seed(a, b, SITES).mean())
    assert found.p < 0.001
    narrow, wide = paired.mean.interval, found.interval()
    assert wide.high - wide.low > narrow.high - narrow.low


def test_more_comparisons_widen_an_interval_about_its_value() -> None:
    one = combined(0.1, Interval(0.05, 0.15), np.array([0.08, 0.1, 0.12]))
    ends = [one.interval(m) for m in (1, 2, 10)]
    assert ends[0].low > ends[1].low > ends[2].low
    assert all((e.low + e.high) / 2 == pytest.approx(0.1) for e in ends)


def test_without_a_common_hospital_nothing_is_compared() -> None:
    a = [run(0, 1.0)]
    assert isinstance(contrast(a, a, resampled_sites(a, ["north"]), resampled_sites(a, ["south"])), NotMeasured)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_adjustment_and_bonferronis(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(one <= other <= min(1.0, len(p) * one) + 1e-12 for one, other in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert list(np.diff(np.array(adjusted)[order]) >= 0) == [True] * (len(p) - 1)


@given(st.floats(-0.2, 0.2), st.floats(0.001, 0.1), st.integers(2, 9), st.integers(1, 40))
def test_an_interval_that_leaves_zero_out_has_a_small_p(value: float, error: float, freedom: int, m: int) -> None:
    found = Contrast(value, error, float(freedom), freedom + 1)
    interval = found.interval(m)
    assert (found.p * m < 0.05) == (interval.low > 0 or interval.high < 0)


def test_of_twenty_true_nothings_few_are_called_different() -> None:
    """At most 5 % of families with any false claim are allowed; of 200 families 22 or more has chance below .0001."""
    rng = np.random.default_rng(7)
    families = rng.normal(size=(200, 20))
    false = sum(min(holm([Contrast(z, 1.0, 1e6, 3).p for z in family])) < 0.05 for family in families)
    assert false < 22
