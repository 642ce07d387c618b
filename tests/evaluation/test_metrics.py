import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from people import people

from pettoolkit.evaluation import metrics
from pettoolkit.records import NotMeasured


@st.composite
def scored(draw, least=2):
    """(y, score, weight): both classes, many tied scores, integer weights."""
    n = draw(st.integers(least, 40))
    y = draw(st.lists(st.integers(0, 1), min_size=n, max_size=n).filter(lambda v: 0 < sum(v) < len(v)))
    score = draw(st.lists(st.integers(0, 12), min_size=n, max_size=n))
    weight = draw(st.lists(st.integers(1, 4), min_size=n, max_size=n))
    return np.array(y), np.array(score) / 12, np.array(weight)


@settings(deadline=None)
@given(scored())
def test_auroc_counts_pairs_and_half_of_ties(case):
    y, score, weight = case
    won, pairs = 0.0, 0.0
    for i in np.flatnonzero(y == 1):
        for j in np.flatnonzero(y == 0):
            pair = weight[i] * weight[j]
            pairs += pair
            won += pair * (1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0)
    assert metrics.auroc(y, score, weight) == pytest.approx(won / pairs, abs=1e-12)


@pytest.mark.parametrize(("ours", "theirs"), [("auroc", "roc_auc_score"), ("auprc", "average_precision_score")])
@settings(max_examples=50, deadline=None)
@given(case=scored())
def test_ranking_figures_are_scikit_learns(ours, theirs, case):
    import sklearn.metrics

    y, score, weight = case
    reference = getattr(sklearn.metrics, theirs)
    assert getattr(metrics, ours)(y, score) == pytest.approx(reference(y, score), abs=1e-12)
    assert getattr(metrics, ours)(y, score, weight) == pytest.approx(
        reference(y, score, sample_weight=weight), abs=1e-12
    )


@settings(max_examples=50, deadline=None)
@given(scored())
def test_figures_at_a_threshold_are_scikit_learns(case):
    import sklearn.metrics as reference

    y, score, w = case
    alarm = score >= 0.25
    assert metrics.accuracy(y, score, 0.25, w) == pytest.approx(reference.accuracy_score(y, alarm, sample_weight=w))
    assert metrics.balanced_accuracy(y, score, 0.25, w) == pytest.approx(
        reference.balanced_accuracy_score(y, alarm, sample_weight=w)
    )
    assert metrics.sensitivity(y, score, 0.25, w) == pytest.approx(reference.recall_score(y, alarm, sample_weight=w))
    assert metrics.f1(y, score, 0.25, w) == pytest.approx(reference.f1_score(y, alarm, sample_weight=w))
    assert metrics.brier(y, score, w) == pytest.approx(reference.brier_score_loss(y, score, sample_weight=w))
    if alarm.any():
        expected = reference.precision_score(y, alarm, sample_weight=w)
        assert metrics.precision(y, score, 0.25, w) == pytest.approx(expected)


@settings(deadline=None)
@given(scored())
def test_a_weight_of_three_is_three_patients(case):
    y, score, weight = case
    copies = np.repeat(np.arange(len(y)), weight)
    for figure in (metrics.auroc, metrics.auprc, metrics.ppv_at_80_recall, metrics.brier):
        assert figure(y, score, weight) == pytest.approx(figure(y[copies], score[copies]), abs=1e-12)


@settings(deadline=None)
@given(scored())
def test_ppv_is_read_where_four_in_five_positives_are_found(case):
    y, score, _ = case
    for threshold in sorted(set(score), reverse=True):
        alarm = score >= threshold
        if 5 * (alarm & (y == 1)).sum() >= 4 * y.sum():
            break
    assert metrics.ppv_at_80_recall(y, score) == pytest.approx(y[alarm].mean())


@settings(max_examples=50, deadline=None)
@given(scored(least=8))
def test_calibration_slope_is_the_logistic_regression(case):
    from sklearn.linear_model import LogisticRegression

    y, score, weight = case
    slope = metrics.calibration_slope(y, score, weight)
    x = np.log(np.clip(score, 1e-6, 1 - 1e-6) / (1 - np.clip(score, 1e-6, 1 - 1e-6)))[:, None]
    if isinstance(slope, NotMeasured):
        overlap = x[y == 0].max() > x[y == 1].min() and x[y == 1].max() > x[y == 0].min()
        assert not overlap
        return
    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-10, max_iter=1000)
    centred = (x - x.mean()) / x.std()  # the reference needs a scaled column to converge
    assert slope == pytest.approx(model.fit(centred, y, sample_weight=weight).coef_[0, 0] / x.std(), rel=1e-3, abs=1e-4)


def test_calibrated_scores_have_slope_one_and_overconfident_ones_half():
    rng = np.random.default_rng(0)
    logit = rng.normal(size=200_000)
    y = rng.random(len(logit)) < 1 / (1 + np.exp(-logit))
    assert metrics.calibration_slope(y, 1 / (1 + np.exp(-logit))) == pytest.approx(1, abs=0.02)
    assert metrics.calibration_slope(y, 1 / (1 + np.exp(-2 * logit))) == pytest.approx(0.5, abs=0.01)


def test_a_slope_that_would_be_infinite_is_not_a_number():
    assert metrics.calibration_slope(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.9])) == metrics.SEPARATED
    assert metrics.calibration_slope(np.array([0, 1]), np.array([0.1, 0.1])) == metrics.CONSTANT


@pytest.mark.parametrize("outcome", [0, 1])
def test_one_class_has_no_ranking_figure_but_an_accuracy(outcome):
    figures = metrics.site_figures(people([outcome] * 20, np.linspace(0, 1, 20)), threshold=0.5)
    for name in ("auroc", "auprc", "calibration_slope", "ppv_at_80_recall", "balanced_accuracy"):
        assert figures[name] == NotMeasured("undefined: one class at this site")
    assert figures["accuracy"] == 0.5
    assert figures["majority_accuracy"] == 1.0


@pytest.mark.parametrize(("positives", "given_"), [(1, False), (9, False), (10, True)])
def test_few_positives_give_an_auroc_but_no_auprc_ppv_f1_or_slope(positives, given_):
    rng = np.random.default_rng(1)
    y = np.r_[np.ones(positives, int), np.zeros(100, int)]
    figures = metrics.site_figures(people(y, rng.random(len(y))), threshold=0.5)
    for name in ("auroc", "brier", "accuracy", "balanced_accuracy", "sensitivity", "majority_accuracy"):
        assert isinstance(figures[name], float)
    for name in ("auprc", "ppv_at_80_recall", "calibration_slope", "precision", "f1"):
        assert isinstance(figures[name], float) is given_
        assert (
            given_ or figures[name].reason == f"undefined: {positives} positives at this site, at least 10 are needed"
        )


def test_without_an_alarm_there_is_no_precision_and_f1_is_zero():
    y, score = np.array([0, 1]), np.array([0.1, 0.2])
    assert metrics.precision(y, score, 0.5) == metrics.NO_ALARM
    assert metrics.f1(y, score, 0.5) == 0


def test_an_empty_site_has_no_figure():
    figures = metrics.site_figures(people([], []), threshold=0.5)
    assert set(figures) == set(metrics.SITE_FIGURES)
    assert set(figures.values()) == {metrics.NOBODY}


def test_equal_scores_are_a_coin():
    assert metrics.auroc(np.array([0, 1, 1]), np.full(3, 0.3)) == 0.5
