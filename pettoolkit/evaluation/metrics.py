"""Figures of one set of scored patients: pure functions of (y, score, weight).

Throughout, ``y`` is 0/1 of shape [n], ``score`` a probability of shape [n] and ``weight`` a
non-negative number per patient (``None``: all 1). A figure that does not exist for these patients is
:class:`~pettoolkit.records.NotMeasured` with the reason; it is never NaN and never a made-up 0.5.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pettoolkit.evaluation.predictions import Array, SitePredictions
from pettoolkit.records import NotMeasured

Figure = float | NotMeasured

ONE_CLASS = NotMeasured("undefined: one class at this site")
NOBODY = NotMeasured("undefined: no test patients at this site")
NO_ALARM = NotMeasured("undefined: no patient is above the threshold")
SEPARATED = NotMeasured("undefined: the scores separate the classes, the slope is infinite")
CONSTANT = NotMeasured("undefined: all scores are equal")

LEAST_POSITIVES = 10
"""With fewer positives a hospital's AUPRC, PPV (at 80 % recall, at the threshold) and calibration slope are noise and
are not given; nor is F1, since PPV can be read off it and the sensitivity."""

RECALL = 0.8
_CLIP = 1e-6  # scores of exactly 0 or 1 have no logit
_NEWTON_STEPS = 100


def auroc(y: Array, score: Array, weight: Array | None = None) -> Figure:
    """Area under the ROC curve, the weighted Mann-Whitney statistic; a tie counts one half (midranks)."""
    positive, negative = _by_score(y, score, weight)
    if positive.sum() <= 0 or negative.sum() <= 0:
        return ONE_CLASS
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / (positive.sum() * negative.sum()))


def auprc(y: Array, score: Array, weight: Array | None = None) -> Figure:
    """Average precision: sum over thresholds of (recall gained) x precision, without interpolation."""
    positive, negative = _by_score(y, score, weight)
    if positive.sum() <= 0 or negative.sum() <= 0:
        return ONE_CLASS
    gained, precision, _ = _precision_recall(positive, negative)
    return float((gained * precision).sum() / positive.sum())


def ppv_at_80_recall(y: Array, score: Array, weight: Array | None = None) -> Figure:
    """Precision at the highest threshold that finds at least 80 % of the positives."""
    positive, negative = _by_score(y, score, weight)
    if positive.sum() <= 0 or negative.sum() <= 0:
        return ONE_CLASS
    _, precision, recall = _precision_recall(positive, negative)
    return float(precision[np.argmax(recall >= RECALL - 1e-12)])


def brier(y: Array, score: Array, weight: Array | None = None) -> Figure:
    """Mean squared difference of score and outcome."""
    return _mean((np.asarray(score, dtype=np.float64) - y) ** 2, weight)


def calibration_slope(y: Array, score: Array, weight: Array | None = None) -> Figure:
    """Slope of the logistic regression of y on logit(score), with an intercept; 1 is well calibrated.

    Cox (1958). Scores are clipped to [1e-6, 1 - 1e-6]. Solved by Newton steps, halved where the
    likelihood would fall. There is no finite slope if the scores separate the classes.
    """
    y, w = np.asarray(y, dtype=np.float64), _weights(y, weight)
    kept = w > 0
    y, w, s = y[kept], w[kept], np.clip(np.asarray(score, dtype=np.float64)[kept], _CLIP, 1 - _CLIP)
    if not 0 < y.sum() < len(y):
        return ONE_CLASS
    x = np.log(s / (1 - s))
    if np.ptp(x) == 0:
        return CONSTANT
    zero, one = x[y == 0], x[y == 1]
    if zero.max() <= one.min() or one.max() <= zero.min():
        return SEPARATED
    spread = float(x.std())
    return float(_newton(np.stack([np.ones_like(x), (x - x.mean()) / spread], axis=1), y, w)[1] / spread)


def accuracy(y: Array, score: Array, threshold: float, weight: Array | None = None) -> Figure:
    """Share of patients on the right side of the threshold (a score equal to it is an alarm)."""
    return _mean((np.asarray(score) >= threshold) == np.asarray(y, dtype=bool), weight)


def majority_accuracy(y: Array, weight: Array | None = None) -> Figure:
    """Accuracy of always naming the more frequent class: what an accuracy has to be compared with."""
    rate = _mean(np.asarray(y, dtype=np.float64), weight)
    return rate if isinstance(rate, NotMeasured) else max(rate, 1 - rate)


def sensitivity(y: Array, score: Array, threshold: float, weight: Array | None = None) -> Figure:
    """Share of the positives that raise an alarm."""
    tp, _, fn, _ = _confusion(y, score, threshold, weight)
    return tp / (tp + fn) if tp + fn > 0 else ONE_CLASS


def precision(y: Array, score: Array, threshold: float, weight: Array | None = None) -> Figure:
    """Share of the alarms that are right."""
    tp, fp, _, _ = _confusion(y, score, threshold, weight)
    return tp / (tp + fp) if tp + fp > 0 else NO_ALARM


def f1(y: Array, score: Array, threshold: float, weight: Array | None = None) -> Figure:
    """Harmonic mean of precision and sensitivity, 2 TP / (2 TP + FP + FN); needs a positive."""
    tp, fp, fn, _ = _confusion(y, score, threshold, weight)
    return 2 * tp / (2 * tp + fp + fn) if tp + fn > 0 else ONE_CLASS


def balanced_accuracy(y: Array, score: Array, threshold: float, weight: Array | None = None) -> Figure:
    """Mean of sensitivity and specificity."""
    tp, fp, fn, tn = _confusion(y, score, threshold, weight)
    if tp + fn <= 0 or tn + fp <= 0:
        return ONE_CLASS
    return (tp / (tp + fn) + tn / (tn + fp)) / 2


_RANKED: dict[str, Callable[[Array, Array], Figure]] = {"auroc": auroc, "brier": brier}
_NEED_POSITIVES: dict[str, Callable[[Array, Array], Figure]] = {
    "auprc": auprc,
    "calibration_slope": calibration_slope,
    "ppv_at_80_recall": ppv_at_80_recall,
}
_AT_THRESHOLD: dict[str, Callable[[Array, Array, float], Figure]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "precision": precision,
    "sensitivity": sensitivity,
    "f1": f1,
}
NEED_POSITIVES = (*_NEED_POSITIVES, "precision", "f1")
"""Figures that are not given for a hospital with fewer than :data:`LEAST_POSITIVES` positives."""
SITE_FIGURES = (*_RANKED, *_NEED_POSITIVES, *_AT_THRESHOLD, "majority_accuracy")


def site_figures(predictions: SitePredictions, threshold: float) -> dict[str, Figure]:
    """All figures of one hospital, by name; ``threshold`` is the same for all hospitals and arms."""
    if predictions.patients == 0:
        return dict.fromkeys(SITE_FIGURES, NOBODY)
    y, score = predictions.y, predictions.score
    figures: dict[str, Figure] = {name: f(y, score) for name, f in _RANKED.items()}
    figures |= {name: f(y, score, threshold) for name, f in _AT_THRESHOLD.items()}
    figures["majority_accuracy"] = majority_accuracy(y)
    few = too_few_positives(predictions.positives)
    if few is not None:
        return figures | dict.fromkeys(NEED_POSITIVES, few)
    return figures | {name: f(y, score) for name, f in _NEED_POSITIVES.items()}


def too_few_positives(positives: int) -> NotMeasured | None:
    """Say why figures that need positives are not given, or ``None`` if there are enough."""
    if positives >= LEAST_POSITIVES:
        return None
    if positives == 0:
        return ONE_CLASS
    return NotMeasured(f"undefined: {positives} positives at this site, at least {LEAST_POSITIVES} are needed")


def mean_of(figures: list[Figure], otherwise: NotMeasured) -> Figure:
    """Unweighted mean of the figures that exist; ``otherwise`` if none does."""
    known = [f for f in figures if not isinstance(f, NotMeasured)]
    return float(np.mean(known)) if known else otherwise


def _weights(y: Array, weight: Array | None) -> Array:
    return np.ones(len(y)) if weight is None else np.asarray(weight, dtype=np.float64)


def _mean(values: Array, weight: Array | None) -> Figure:
    w = _weights(values, weight)
    return float((w * values).sum() / w.sum()) if w.sum() > 0 else NOBODY


def _by_score(y: Array, score: Array, weight: Array | None) -> tuple[Array, Array]:
    """Weight of positives and of negatives at each distinct score, ascending."""
    w = _weights(y, weight)
    levels, at = np.unique(score, return_inverse=True)
    total = np.bincount(at, weights=w, minlength=len(levels))
    positive = np.bincount(at, weights=w * (np.asarray(y) == 1), minlength=len(levels))
    negative = np.bincount(at, weights=w * (np.asarray(y) == 0), minlength=len(levels))
    kept = total > 0
    return positive[kept], negative[kept]


def _precision_recall(positive: Array, negative: Array) -> tuple[Array, Array, Array]:
    """Positives gained, precision and recall at each distinct score, from the highest down."""
    gained = positive[::-1]
    tp = np.cumsum(gained)
    return gained, tp / (tp + np.cumsum(negative[::-1])), tp / tp[-1]


def _confusion(y: Array, score: Array, threshold: float, weight: Array | None) -> tuple[float, float, float, float]:
    """Weights of TP, FP, FN, TN."""
    w, positive, alarm = _weights(y, weight), np.asarray(y) == 1, np.asarray(score) >= threshold
    cells = (positive & alarm, ~positive & alarm, positive & ~alarm, ~positive & ~alarm)
    tp, fp, fn, tn = (float(w[cell].sum()) for cell in cells)
    return tp, fp, fn, tn


def _newton(x: Array, y: Array, w: Array) -> Array:
    """Coefficients of a logistic regression whose maximum is known to exist."""

    def loss(beta: Array) -> float:
        eta = x @ beta
        return float((w * (np.logaddexp(0.0, eta) - y * eta)).sum())

    beta = np.zeros(x.shape[1])
    now = loss(beta)
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(x @ beta, -500, 500)))
        gradient = x.T @ (w * (p - y))
        hessian = (x * (w * p * (1 - p))[:, None]).T @ x
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        after = loss(beta - step)
        while after > now + 1e-12 * abs(now) and np.abs(step).max() > 1e-12:
            step /= 2
            after = loss(beta - step)
        beta, now = beta - step, after
        if np.abs(step).max() < 1e-10:
            break
    return beta
