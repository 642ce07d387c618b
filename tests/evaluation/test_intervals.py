import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import binormal, people
from scipy.stats import norm

from pettoolkit.evaluation import metrics
from pettoolkit.evaluation.intervals import (
    bootstrap_mean_site_auroc,
    paired_difference,
    patient_weights,
    percentile_interval,
    resampled_auroc,
    separated_bound,
)
from pettoolkit.records import Interval, NotMeasured


def test_weights_are_exponential_with_mean_one():
    w = patient_weights("a", np.arange(400), 500).ravel()
    assert w.mean() == pytest.approx(1, abs=0.01)
    assert w.var() == pytest.approx(1, abs=0.03)
    assert (w > 1).mean() == pytest.approx(np.exp(-1), abs=0.005)


def test_weights_of_neighbours_resamples_and_hospitals_are_unrelated():
    w = patient_weights("a", np.arange(300), 300)
    other = patient_weights("b", np.arange(300), 300)
    for x, y in ((w[1:], w[:-1]), (w[:, 1:], w[:, :-1]), (w, other)):
        assert abs(np.corrcoef(x.ravel(), y.ravel())[0, 1]) < 0.015


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=20, unique=True), st.integers(0, 19))
def test_a_patients_weight_does_not_depend_on_who_else_is_tested(patients, first):
    together = patient_weights("a", np.array(patients), 20)
    for i, patient in enumerate(patients):
        np.testing.assert_array_equal(patient_weights("a", np.array([patient]), 20)[0], together[i])
    np.testing.assert_array_equal(patient_weights("a", np.array(patients), 20 - first, first), together[:, first:])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=30))
def test_the_vectorised_resamples_are_the_slow_loops(rows):
    y, score = np.array([r[0] for r in rows]), np.array([r[1] for r in rows]) / 9
    p = people(y, score, patient=np.arange(len(y))[::-1] * 3)
    fast = resampled_auroc("a", p, 25)
    if isinstance(fast, NotMeasured):
        assert isinstance(metrics.auroc(y, score), NotMeasured)
        return
    weights = patient_weights("a", p.patient, 25)
    slow = [metrics.auroc(p.y, p.score, weights[:, b]) for b in range(25)]
    np.testing.assert_allclose(fast, slow, rtol=0, atol=1e-12)


def test_blocks_do_not_change_the_resamples(monkeypatch):
    p = binormal(np.random.default_rng(0), 20, 100)
    whole = resampled_auroc("a", p, 50)
    monkeypatch.setattr("pettoolkit.evaluation.intervals._BLOCK", 7 * 120)
    np.testing.assert_array_equal(resampled_auroc("a", p, 50), whole)


def test_the_interval_is_as_wide_as_counting_patients_gives():
    rng = np.random.default_rng(4)
    p = binormal(rng, 60, 600)
    positive, negative = p.score[p.y == 1], p.score[p.y == 0]
    counted = [
        np.searchsorted(np.sort(rng.choice(negative, 600)), rng.choice(positive, 60)).mean() / 600 for _ in range(2000)
    ]
    assert np.std(resampled_auroc("a", p)) == pytest.approx(np.std(counted), rel=0.1)


def test_nineteen_of_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(5)
    separation = {"a": (25, 0.8), "b": (40, 1.0), "c": (60, 0.5)}
    truth = {site: norm.cdf(d / 2**0.5) for site, (_, d) in separation.items()}
    mean_held, site_held, trials = 0, 0, 250
    for _ in range(trials):
        sites = {site: binormal(rng, n, 200, d) for site, (n, d) in separation.items()}
        found = bootstrap_mean_site_auroc([sites], resamples=300)
        mean_held += holds(found.mean.interval, np.mean(list(truth.values())))
        site_held += holds(found.per_site["a"].interval, truth["a"])
    # The standard error of a coverage over 250 trials is 0.014.
    assert 0.91 <= mean_held / trials <= 0.985
    assert 0.90 <= site_held / trials <= 0.985


@pytest.mark.parametrize(
    ("truth", "positives", "negatives"), [(0.96, 5, 100), (0.96, 8, 200), (0.98, 15, 200), (0.98, 200, 8)]
)
def test_near_one_and_for_few_patients_they_do_so_too(truth, positives, negatives):
    """The percentiles held the truth in 73 to 86 % of such cases."""
    rng, separation, trials = np.random.default_rng(6), norm.ppf(truth) * 2**0.5, 200
    found = [
        bootstrap_mean_site_auroc([{"a": binormal(rng, positives, negatives, separation)}], resamples=200)
        for _ in range(trials)
    ]
    # The standard error of a coverage over 200 trials is .015; a true .92 falls below .875 once in 80 times.
    assert np.mean([holds(f.per_site["a"].interval, truth) for f in found]) >= 0.875


def test_an_interval_lies_between_nought_and_one_around_its_figure():
    rng = np.random.default_rng(13)
    for _ in range(50):
        p = binormal(rng, 5, 30, rng.uniform(-3, 3))
        found = bootstrap_mean_site_auroc([{"a": p}], resamples=50).mean
        assert 0 <= found.interval.low <= found.value <= found.interval.high <= 1


def test_perfect_scores_of_few_patients_are_no_proof():
    perfect, reverse = (
        people([1] * 5 + [0] * 95, [0.9] * 5 + [0.1] * 95),
        people([1] * 5 + [0] * 95, [0.1] * 5 + [0.9] * 95),
    )
    up, down = (bootstrap_mean_site_auroc([{"a": p}]) for p in (perfect, reverse))
    assert (up.mean.value, up.mean.interval.high) == (1.0, 1.0)
    assert 0.6 < up.mean.interval.low < 0.9
    assert up.mean.interval == up.per_site["a"].interval
    assert (down.mean.interval.low, down.mean.interval.high) == pytest.approx((0, 1 - up.mean.interval.low))
    assert separated_bound(50, 950) > separated_bound(5, 95)


def test_the_bound_for_perfect_scores_solves_newcombes_equation():
    m, n = 12, 88
    a = separated_bound(m, n)
    half = (m + n) / 2 - 1
    variance = a * (1 - a) * (1 + half * (1 - a) / (2 - a) + half * a / (1 + a)) / (m * n)
    assert 1 - a == pytest.approx(1.959964 * variance**0.5)


def holds(interval, value):
    return bool(interval.low <= value <= interval.high)


def test_a_patient_in_all_seeds_counts_once():
    p = binormal(np.random.default_rng(6), 30, 300)
    once, thrice = bootstrap_mean_site_auroc([{"a": p}]), bootstrap_mean_site_auroc([{"a": p}] * 3)
    assert once.mean.value == pytest.approx(thrice.mean.value)
    assert once.mean.interval.low == pytest.approx(thrice.mean.interval.low)
    assert once.mean.interval.high == pytest.approx(thrice.mean.interval.high)


def test_other_patients_in_each_seed_narrow_the_interval():
    rng = np.random.default_rng(7)
    p = binormal(rng, 30, 300)
    others = [people(p.y, binormal(rng, 30, 300).score, np.arange(330) + 330 * k) for k in range(4)]
    one, four = (bootstrap_mean_site_auroc([{"a": q} for q in runs]).mean.interval for runs in (others[:1], others))
    assert four.high - four.low < 0.65 * (one.high - one.low)


def test_the_worst_hospital_is_that_of_means_over_seeds():
    up, down, middle = people([0, 1], [0.1, 0.9]), people([0, 1], [0.9, 0.1]), people([0, 1], [0.5, 0.5])
    found = bootstrap_mean_site_auroc(
        [{"swings": up, "steady": middle}, {"swings": down, "steady": down}], resamples=50
    )
    assert found.worst_site == "steady"  # 0.25, though both hospitals touch 0 in one seed
    assert found.worst.value == 0.25
    assert found.per_site["swings"].value == 0.5
    assert found.mean.value == 0.375


def test_undefined_hospitals_are_left_out():
    rng = np.random.default_rng(8)
    good, one_class = binormal(rng, 20, 100), people([0, 0], [0.1, 0.2])
    found = bootstrap_mean_site_auroc([{"a": good, "b": one_class}])
    assert found.mean == bootstrap_mean_site_auroc([{"a": good}]).mean
    assert found.per_site["b"] == NotMeasured("undefined: one class at this site")
    assert isinstance(bootstrap_mean_site_auroc([{"b": one_class}]).mean, NotMeasured)


def test_four_positives_give_a_figure_without_an_interval():
    found = bootstrap_mean_site_auroc([{"a": binormal(np.random.default_rng(9), 4, 50)}])
    assert isinstance(found.per_site["a"].value, float)
    assert isinstance(found.per_site["a"].interval, NotMeasured)


def test_arms_are_compared_on_the_same_patients():
    rng = np.random.default_rng(10)
    a = binormal(rng, 40, 400)
    nearly = people(a.y, np.clip(a.score * rng.uniform(0.95, 1.05, 440), 0, 1))
    difference, interval = paired_difference([{"h": a}], [{"h": nearly}])
    alone = bootstrap_mean_site_auroc([{"h": a}]).mean.interval
    assert difference == pytest.approx(metrics.auroc(a.y, a.score) - metrics.auroc(nearly.y, nearly.score))
    assert interval.high - interval.low < 0.2 * (alone.high - alone.low)


def test_an_arm_against_itself_differs_by_nothing():
    a = binormal(np.random.default_rng(11), 10, 50)
    assert paired_difference([{"h": a}], [{"h": a}]) == (0.0, Interval(0.0, 0.0))


def test_different_seeds_or_hospitals_are_no_pair():
    a = {"h": binormal(np.random.default_rng(12), 10, 50)}
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference([a], [a, a])
    with pytest.raises(ValueError, match="same hospitals"):
        paired_difference([a], [{"other": a["h"]}])


def test_an_interval_is_the_middle_95_percent_of_many_patients_and_wider_for_few():
    many, few = (percentile_interval(np.arange(1001.0), freedom) for freedom in (np.inf, 4))
    assert (many.low, many.high) == pytest.approx((25, 975))
    stretch = (6 / 4) ** 0.5 * 2.776445 / 1.959964  # t with 4 degrees of freedom against the normal
    assert (few.low, few.high) == pytest.approx((500 - 475 * stretch, 500 + 475 * stretch))


def test_several_rows_of_a_patient_are_resampled_together():
    """Copies of a patient's row say nothing new: neither the resamples nor the interval may change."""
    once = binormal(np.random.default_rng(1), 15, 60)
    copies = np.repeat(np.arange(75), 3)
    thrice = people(once.y[copies], once.score[copies], once.patient[copies])

    np.testing.assert_allclose(resampled_auroc("a", thrice, 50), resampled_auroc("a", once, 50), atol=1e-12)
    found, known = (bootstrap_mean_site_auroc([{"a": p}]).mean for p in (thrice, once))
    assert found.interval.low == pytest.approx(known.interval.low, abs=1e-9)
    assert found.interval.high == pytest.approx(known.interval.high, abs=1e-9)
