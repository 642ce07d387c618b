"""Figures of predictions are scikit-learn's; intervals cover what they should; differences are paired."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics

from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.evaluation.quality.scores import HeldOut, auroc_draws, lost, scored_classes, scored_number
from pettoolkit.records import Interval, NotMeasured


def held(y: np.ndarray, classes: tuple[str, ...], resamples: int = 200, first: int = 0) -> HeldOut:
    return HeldOut(y, np.arange(first, first + len(y)), classes, resamples)


def said(y: np.ndarray, k: int, seed: int = 0, signal: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    raw = np.exp(np.round(rng.standard_normal((len(y), k)) + signal * (y[:, None] == np.arange(k)), 1))
    return raw / raw.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("k", [2, 3])
def test_figures_are_those_of_scikit_learn(k: int) -> None:
    y = np.random.default_rng(1).integers(0, k, 120)
    p = said(y, k)
    decided = p.argmax(axis=1)
    names = tuple("abc"[:k])

    found = scored_classes(held(y, names), p, decided).scores.figures

    report = metrics.classification_report(y, decided, target_names=names, output_dict=True, zero_division=0)
    assert found["accuracy"].value == pytest.approx(report["accuracy"])
    for ours, theirs in (("sensitivity", "recall"), ("precision", "precision"), ("f1", "f1-score")):
        for name in names:
            assert found[f"{ours}/{name}"].value == pytest.approx(report[name][theirs])
        assert found[f"{ours}/weighted"].value == pytest.approx(report["weighted avg"][theirs])
        assert found[f"{ours}/macro"].value == pytest.approx(report["macro avg"][theirs])
    score = p[:, 1] if k == 2 else p
    assert found["auroc"].value == pytest.approx(metrics.roc_auc_score(y, score, multi_class="ovr"))
    assert found["majority_accuracy"].value == pytest.approx(np.bincount(y).max() / len(y))


def test_figures_of_a_regression_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y = rng.standard_normal(100)
    guess = y + rng.standard_normal(100)

    found = scored_number(held(y, ()), guess).scores.figures

    assert found["r2"].value == pytest.approx(metrics.r2_score(y, guess))
    assert found["rmse"].value == pytest.approx(metrics.root_mean_squared_error(y, guess))
    assert found["mae"].value == pytest.approx(metrics.mean_absolute_error(y, guess))


def test_weighted_auroc_counts_pairs() -> None:
    rng = np.random.default_rng(2)
    positive, score, weight = rng.random(30) < 0.4, rng.integers(0, 5, 30) / 5, rng.random((30, 3))

    found = auroc_draws(positive, score, weight)

    for column in range(3):
        won = total = 0.0
        for i in np.flatnonzero(positive):
            for j in np.flatnonzero(~positive):
                pair = weight[i, column] * weight[j, column]
                won += pair * (float(score[i] > score[j]) + 0.5 * float(score[i] == score[j]))
                total += pair
        assert found[column] == pytest.approx(won / total)


def test_intervals_cover_the_population() -> None:
    # 95 % intervals of accuracy and R2: of 200 at least 180 hold the truth but with a chance of 1 in 500.
    rng = np.random.default_rng(0)
    covered = [0, 0]
    for run in range(200):
        y = rng.integers(0, 2, 150)
        decided = np.where(rng.random(150) < 0.8, y, 1 - y)
        p = np.stack([1.0 - decided, decided], axis=1)
        accuracy = scored_classes(held(y, ("0", "1"), first=1000 * run), p, decided).scores.figures["accuracy"]
        truth = rng.standard_normal(150)
        r2 = scored_number(held(truth + rng.standard_normal(150), (), first=1000 * run), truth).scores.figures["r2"]
        for i, (figure, true) in enumerate(((accuracy, 0.8), (r2, 0.5))):
            covered[i] += figure.interval.low <= true <= figure.interval.high
    assert min(covered) >= 180


def test_the_difference_of_a_model_with_itself_is_exactly_none() -> None:
    y = np.random.default_rng(3).integers(0, 2, 80)
    one = scored_classes(held(y, ("0", "1")), said(y, 2), y)
    assert lost(one, one) == Estimate(0.0, Interval(0.0, 0.0))


def test_paired_differences_are_tighter_than_their_parts() -> None:
    y = np.random.default_rng(3).integers(0, 2, 300)
    p = said(y, 2)
    q = np.clip(p + np.random.default_rng(4).normal(0, 0.02, p.shape), 0, 1)
    one, two = (scored_classes(held(y, ("0", "1")), x, y) for x in (p, q))

    difference, alone = lost(one, two), one.scores.figures["auroc"]

    assert difference.value == pytest.approx(one.headline - two.headline)
    assert difference.interval.high - difference.interval.low < 0.5 * (alone.interval.high - alone.interval.low)


def test_with_few_patients_of_a_class_there_is_a_value_and_no_interval() -> None:
    y = np.array([1] * 3 + [0] * 60)
    found = scored_classes(held(y, ("0", "1")), said(y, 2), y).scores.figures
    assert isinstance(found["auroc"].interval, NotMeasured)
    assert isinstance(found["sensitivity/0"].interval, Interval)


def test_one_class_has_no_auroc_and_no_difference() -> None:
    y = np.zeros(30, dtype=int)
    found = scored_classes(held(y, ("0", "1")), said(y, 2), y)
    assert found.scores.figures["auroc"] == NotMeasured("undefined: one class among these test patients")
    assert found.scores.figures["accuracy"].value == 1
    assert isinstance(lost(found, found), NotMeasured)


def test_r2_does_not_hang_on_where_zero_is() -> None:
    truth = np.random.default_rng(3).standard_normal(100)
    near, far = (scored_number(held(truth + zero, ()), 0.8 * truth + zero).headline for zero in (0.0, 1e9))
    assert far == pytest.approx(near, abs=1e-5)


def test_a_constant_outcome_has_no_r2() -> None:
    assert isinstance(scored_number(held(np.ones(30), ()), np.ones(30)).headline, NotMeasured)


def test_groups_share_the_weights_of_their_patients() -> None:
    whole = held(np.arange(20) % 2, ("0", "1"))
    rows = np.array([3, 7, 11])
    np.testing.assert_array_equal(whole.take(rows).weights, whole.weights[rows])
