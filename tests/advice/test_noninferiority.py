"""Good enough: yes, no or undecided, with a false-alarm rate that is kept."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pytest

from pettoolkit.advice.noninferiority import FEW_SEEDS, _decide, noninferior
from pettoolkit.evaluation.contrasts import Contrast
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import Interval, NotMeasured
from tests.advice.made_up import SITES, scores

ALPHA = 0.025
"""Of a yes at the margin: one end of a 95 % interval."""


def compared(ours: float, theirs: float = 1.2, *, seeds: int = 3, patients: int = 600, **changed):  # type: ignore[no-untyped-def]
    a = [scores(ours, seed, 1, patients) for seed in range(seeds)]
    b = [scores(theirs, seed, 2, patients) for seed in range(seeds)]
    return noninferior(a, b, SITES, **{"margin": 0.03, "resamples": 300, **changed})


def test_an_equal_model_is_good_enough() -> None:
    found = compared(1.2)
    assert found.state == "yes"
    assert isinstance(found.interval, Interval)
    assert found.interval.low > -0.03


def test_a_much_worse_model_is_not() -> None:
    found = compared(0.5)
    assert found.state == "no"
    assert "at least" in found.why


def test_a_loss_near_the_margin_is_undecided_and_says_what_would_decide() -> None:
    found = compared(1.11, patients=160)
    assert found.state == "undecided"
    assert "times as many test patients" in found.why


def test_few_patients_leave_it_undecided_though_the_models_are_equal() -> None:
    assert compared(1.2, patients=40).state == "undecided"


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds: int) -> None:
    found = compared(0.5, seeds=seeds)
    assert (found.state, found.why) == ("undecided", FEW_SEEDS)


def test_a_margin_that_is_larger_than_the_loss_turns_no_into_yes() -> None:
    assert compared(0.9, margin=0.02).state == "no"
    assert compared(0.9, margin=0.25).state == "yes"


def test_more_comparisons_widen_the_interval() -> None:
    one, ten = compared(1.1), compared(1.1, comparisons=10)
    assert ten.interval.low < one.interval.low
    assert ten.interval.high > one.interval.high


def test_a_spread_over_seeds_widens_the_interval() -> None:
    theirs = [scores(1.2, seed, 2) for seed in range(3)]
    steady = noninferior([scores(1.2, s, 1) for s in range(3)], theirs, SITES, margin=0.03, resamples=300)
    jumpy = noninferior(
        [scores(1.2 + jump, s, 1) for s, jump in enumerate((-0.4, 0, 0.4))], theirs, SITES, margin=0.03, resamples=300
    )
    assert steady.state == "yes"
    assert jumpy.state == "undecided"


def test_hospitals_with_one_outcome_leave_nothing_to_compare() -> None:
    nobody = {site: SitePredictions(np.arange(9), np.zeros(9), np.linspace(0, 1, 9)) for site in SITES}
    found = noninferior([nobody] * 2, [nobody] * 2, SITES, margin=0.02)
    assert found.state == "undecided"
    assert isinstance(found.value, NotMeasured)


def test_at_the_margin_a_yes_is_as_rare_as_is_stated() -> None:
    """100 made-up studies in which exactly the margin is lost: more than 8 false yeses happen once in 300 times."""
    theirs = 1.2
    lost = 0.05
    ours = np.sqrt(2) * NormalDist().inv_cdf(NormalDist().cdf(theirs / np.sqrt(2)) - lost)
    studies, yes = 100, 0
    for study in range(studies):
        rng = np.random.default_rng(study)
        seeds = [1000 * study + s for s in range(3)]
        jitter = rng.normal(0, 0.05, size=3)  # another training is a little better or worse
        a = [scores(ours + j, s, 1, 160) for s, j in zip(seeds, jitter, strict=True)]
        b = [scores(theirs, s, 2, 160) for s in seeds]
        yes += noninferior(a, b, SITES, margin=lost, resamples=100).state == "yes"
    assert yes <= 8, f"{yes} of {studies}; {ALPHA:.1%} are allowed in the long run"


@pytest.mark.parametrize("comparisons", [1, 6])
def test_an_equal_model_gets_its_yes_with_enough_patients(comparisons: int) -> None:
    assert compared(1.2, patients=1500, comparisons=comparisons).state == "yes"


def test_what_would_decide_counts_that_more_seeds_know_their_own_spread_better() -> None:
    """With 2 degrees of freedom the quantile is far out: one more run of the same seeds draws it in by far."""
    found = Contrast(-0.136, 0.03, 2.0, 3)
    state, why = _decide(found, 14, 0.02)
    assert state == "undecided"
    assert "about 2 times as many" in why
    assert found.repeated(2).interval(14).high < -0.02 < found.interval(14).high


def test_a_loss_at_the_margin_is_never_decided() -> None:
    assert "no realistic number" in _decide(Contrast(-0.02, 0.03, 4.0, 3), 1, 0.02)[1]


def test_the_interval_holds_where_splits_share_patients_and_models_are_trained_on_them() -> None:
    """80 cohorts, each split three times: each hospital's own least squares against those of all hospitals' rows."""
    lost, studies, patients, features = 0.036, 80, 400, 20
    found = []
    for study in range(studies):
        rng = np.random.default_rng(study)
        x = rng.normal(size=(len(SITES), patients, features))
        y = rng.random(x.shape[:2]) < 1 / (1 + np.exp(2 - 0.35 * x[..., :5].sum(axis=2)))
        ours, theirs = [], []
        for _ in range(3):
            order = np.array([rng.permutation(patients) for _ in SITES])
            train, test = order[:, :220], order[:, 320:]
            together = _least_squares(
                *(np.concatenate([p[r] for p, r in zip(part, train, strict=True)]) for part in (x, y))
            )
            own = [_least_squares(x[i][rows], y[i][rows]) for i, rows in enumerate(train)]
            ours.append(_scored(x, y, test, own))
            theirs.append(_scored(x, y, test, [together] * len(SITES)))
        found.append(noninferior(ours, theirs, SITES, margin=lost, resamples=100))
    values = [difference.value for difference in found]
    assert float(np.mean(values)) == pytest.approx(-lost, abs=0.007), "the true loss, which is the margin here"
    assert sum(difference.state == "yes" for difference in found) <= 7, "at most 2.5 % in the long run"
    assert sum(difference.state == "no" for difference in found) <= 7


def _least_squares(x, y):  # type: ignore[no-untyped-def]
    design = np.column_stack([np.ones(len(x)), x])
    return np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ y)


def _scored(x, y, test, weights):  # type: ignore[no-untyped-def]
    rows = zip(SITES, x, y, test, weights, strict=True)
    return {
        site: SitePredictions(
            patients, outcome[patients].astype(np.int8), 1 / (1 + np.exp(-(w[0] + some[patients] @ w[1:])))
        )
        for site, some, outcome, patients, w in rows
    }
