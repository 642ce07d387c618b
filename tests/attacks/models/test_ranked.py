"""AUC and true-positive rate with intervals over patients and models."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from pettoolkit.attacks.models.ranked import AUC, TPR, Ranked, weighted_auc, weighted_tpr

Array = np.ndarray


def drawn(rng: np.random.Generator, mu: float, members: int, others: int) -> tuple[Array, Array]:
    score = np.concatenate([rng.normal(mu, 1, members), rng.normal(0, 1, others)])
    return score, np.arange(members + others) < members


def test_auc_equals_counting_pairs() -> None:
    rng = np.random.default_rng(0)
    score, inside = drawn(rng, 0.5, 30, 40)
    score = score.round(1)  # with ties
    pairs = score[inside][:, None] - score[~inside][None, :]
    expected = ((pairs > 0) + 0.5 * (pairs == 0)).mean()
    assert weighted_auc(score, inside, np.ones((70, 1)))[0] == pytest.approx(expected)


def test_a_weight_of_two_is_a_patient_twice() -> None:
    score, inside = drawn(np.random.default_rng(1), 0.5, 30, 40)
    weights = np.random.default_rng(2).integers(1, 4, 70)
    twice = np.repeat(np.arange(70), weights)
    for measure in (weighted_auc, lambda s, i, w: weighted_tpr(s, i, w, 0.1)):
        found = measure(score, inside, weights[:, None].astype(float))[0]
        assert found == pytest.approx(measure(score[twice], inside[twice], np.ones((len(twice), 1)))[0])


def test_the_rate_is_read_at_the_false_positive_rate_asked_for() -> None:
    # 1,000 non-members 1 .. 1000: ten of them are above 990
    score = np.concatenate([np.arange(1, 1001), [995.5, 990.5, 989.5, 3.0]]).astype(float)
    inside = np.arange(1004) >= 1000
    assert weighted_tpr(score, inside, np.ones((1004, 1)), 0.01)[0] == pytest.approx(0.5)
    assert weighted_tpr(score, inside, np.ones((1004, 1)), 0.005)[0] == pytest.approx(0.25)


def test_scores_that_are_all_equal_are_chance() -> None:
    score, inside = np.zeros(200), np.arange(200) < 120
    weights = np.ones((200, 1))
    assert weighted_auc(score, inside, weights)[0] == pytest.approx(0.5)
    assert weighted_tpr(score, inside, weights, 0.01)[0] == pytest.approx(0.01)


@pytest.mark.parametrize("measure", [AUC, TPR])
@pytest.mark.parametrize("mu", [0.0, 0.5])
def test_the_interval_over_patients_covers(measure: str, mu: float) -> None:
    # 95 % within four binomial standard errors (.022 each)
    true = norm.cdf(mu / np.sqrt(2)) if measure == AUC else norm.cdf(norm.ppf(0.01) + mu)
    control = 0.5 if measure == AUC else 0.01
    true = (true - control) / (1 - control)
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(100):
        score, inside = drawn(rng, mu, 300, 300)
        found = Ranked(score[None], inside[None], np.arange(600), measure, seed=seed).interval()
        covered += found.low <= true <= found.high
    assert covered >= 87


def test_the_interval_over_models_covers_what_other_models_would_have_shown() -> None:
    # models differ in how far they leak, and patients in how easily: both must be in the interval
    rng = np.random.default_rng(6)
    patients, models = 150, 8
    expected = np.mean(
        [weighted_auc(*_two_way(np.random.default_rng(900 + i), 4000, 1), np.ones((4000, 1)))[0] for i in range(300)]
    )
    covered = 0
    for seed in range(100):
        score, inside = _two_way(rng, patients, models, flat=False)
        found = Ranked(score, inside, np.arange(patients), AUC, seed=seed).interval()
        covered += found.low <= 2 * expected - 1 <= found.high
    assert covered >= 85


def _two_way(rng: np.random.Generator, patients: int, models: int, *, flat: bool = True) -> tuple[Array, Array]:
    inside = rng.random((models, patients)) < 0.5
    leak = np.abs(rng.normal(1, 0.4, (models, 1))) * np.abs(rng.normal(1, 0.7, patients))
    score = inside * leak + rng.normal(0, 1, patients) * 0.8 + rng.normal(0, 1, (models, patients))
    return (score[0], inside[0]) if flat else (score, inside)


def test_halves_have_other_patients() -> None:
    score, inside = drawn(np.random.default_rng(1), 0.5, 300, 400)
    ranked = Ranked(score[None], inside[None], np.arange(700))
    halves = [ranked.half(number) for number in (0, 1)]
    assert set(halves[0].patient) | set(halves[1].patient) == set(range(700))
    assert not set(halves[0].patient) & set(halves[1].patient)


def test_no_success_at_all_is_no_certainty() -> None:
    score = np.concatenate([np.zeros(50), np.arange(1, 101)])
    ranked = Ranked(score[None], (np.arange(150) < 50)[None], np.arange(150), TPR)
    assert ranked.success == 0.0
    assert ranked.interval().high > 0.05


@pytest.mark.parametrize("members", [60, 100])
@pytest.mark.parametrize("level", [0.95, 0.995])
def test_few_non_members_do_not_make_a_rate_look_certain(members: int, level: float) -> None:
    # one of 60 is more than 1 %: where the threshold lies is not known, so no lower end may be above the truth
    true = (norm.cdf(norm.ppf(0.01) + 2.5) - 0.01) / 0.99
    rng, missed = np.random.default_rng(8), 0
    for seed in range(60):
        score, inside = drawn(rng, 2.5, members, 60)
        interval = Ranked(score[None], inside[None], np.arange(len(score)), TPR, seed=seed).interval(level)
        missed += not interval.low <= true <= interval.high
    assert missed <= 6  # expected at most 3; the plain bootstrap misses 19
