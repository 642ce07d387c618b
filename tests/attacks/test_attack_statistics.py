"""Intervals of attacks hold what they promise, and count patients, not attacks."""

from __future__ import annotations

import numpy as np
import pytest

from pettoolkit.attacks.statistics import (
    Rate,
    bonferroni,
    excess,
    excess_interval,
    half_of,
    rate_of,
    wilson,
)

RUNS = 2000


@pytest.mark.parametrize(
    ("attack", "control", "n", "m"),
    [(0.02, 0.01, 500, 500), (0.5, 0.4, 300, 300), (0.1, 0.02, 200, 100), (0.9, 0.5, 300, 300), (0.3, 0.3, 100, 50)],
)
def test_the_interval_of_the_excess_covers_it(attack: float, control: float, n: int, m: int) -> None:
    # 95 % within four binomial standard errors (.005 each): a false alarm in 16,000 seeds
    rng = np.random.default_rng(0)
    true = excess(attack, control)
    covered = 0
    for a, c in zip(rng.binomial(n, attack, RUNS), rng.binomial(m, control, RUNS), strict=True):
        interval = excess_interval(Rate(a / n, n), Rate(c / m, m))
        covered += interval.low <= true <= interval.high
    assert covered / RUNS > 0.95 - 0.02
    assert covered / RUNS < 1.0


def test_five_attacks_on_a_patient_are_one_observation() -> None:
    patient = np.repeat(np.arange(40), 5)
    hit = np.tile([True, True, False, False, False], 40)
    rate = rate_of(patient, hit)
    assert rate == Rate(0.4, 40)
    assert wilson(rate).high - wilson(rate).low > 2 * (wilson(Rate(0.4, 200)).high - wilson(Rate(0.4, 200)).low)


def test_wilson_agrees_with_its_published_values() -> None:
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3
    for r, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        found = wilson(Rate(r / n, n))
        assert (round(found.low, 4), round(found.high, 4)) == (low, high)


def test_excess_of_a_control_that_always_succeeds_says_nothing() -> None:
    assert excess(1.0, 1.0) == 0.0
    interval = excess_interval(Rate(1.0, 100), Rate(1.0, 100))
    assert (interval.low, interval.high) == (-1.0, 1.0)


def test_the_interval_is_around_the_figure_and_widens_with_the_level() -> None:
    wide, narrow = (excess_interval(Rate(0.3, 200), Rate(0.1, 150), level) for level in (0.999, 0.9))
    assert wide.low < narrow.low < excess(0.3, 0.1) < narrow.high < wide.high


def test_bonferroni() -> None:
    assert bonferroni(1) == pytest.approx(0.95)
    assert bonferroni(10) == pytest.approx(0.995)


def test_halves_are_halves_and_depend_on_nobody_else() -> None:
    patients = np.arange(10_000, dtype=np.int64)
    half = half_of(patients)
    assert 4800 < half.sum() < 5200
    assert (half_of(patients[::3]) == half[::3]).all()
