"""Figures of one model on real test patients, with 95 % intervals, for outcomes of every kind.

Intervals resample the test patients with exponential weights, as in :mod:`pettoolkit.evaluation.intervals`. A
patient's weights are the same for every model and every training table, so that differences between them are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pettoolkit.evaluation.intervals import LEAST_PER_CLASS, Estimate, patient_weights, percentile_interval
from pettoolkit.evaluation.quality.figures import Measured, Scores
from pettoolkit.evaluation.quality.tables import Array, Floats, Ints
from pettoolkit.records import Interval, NotMeasured

ONE_CLASS = NotMeasured("undefined: one class among these test patients")
NOT_TRAINED = NotMeasured("undefined: the training rows have one class (or value) only")
FEW = NotMeasured(f"fewer than {LEAST_PER_CLASS} test patients of this class")
_WHERE = "declaration"  # weights are drawn for (place, patient): all figures of a declaration share one place


@dataclass(frozen=True)
class HeldOut:
    """Real test patients, and how they are resampled.

    Attributes
    ----------
    y
        Class of each (:func:`.tables.labels`), or the number to be predicted, shape (n,).
    index
        A number of its own for each, shape (n,); the same patient has the same in every group.
    classes
        Names of the public classes; empty for a number.
    """

    y: Array
    index: Ints
    classes: tuple[str, ...]
    resamples: int

    def take(self, rows: Ints) -> HeldOut:
        """Some of the patients."""
        return HeldOut(self.y[rows], self.index[rows], self.classes, self.resamples)

    @cached_property
    def weights(self) -> Floats:
        """Weights of each resample, shape (n, resamples)."""
        return np.asarray(patient_weights(_WHERE, self.index, self.resamples))

    @cached_property
    def counts(self) -> Ints:
        """Patients of each class."""
        return np.bincount(self.y, minlength=len(self.classes))

    def rarest(self) -> int:
        """Patients of the rarest class that is there."""
        return int(self.counts[self.counts > 0].min())


@dataclass(frozen=True)
class Scored:
    """Figures, and each resample's headline figure (None: not measured), shape (resamples,)."""

    scores: Scores
    headline: float | NotMeasured
    draws: Floats | None
    freedom: float


def auroc_draws(positive: Array, score: Floats, weights: Floats) -> Floats:
    """AUROC under each column of weights, ties one half; ``positive`` is boolean, shape (n,)."""
    order = np.argsort(score, kind="stable")
    ranked, mark, w = score[order], positive[order].astype(np.float64)[:, None], weights[order]
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    up = np.add.reduceat(w * mark, starts, axis=0)
    down = np.add.reduceat(w * (1 - mark), starts, axis=0)
    below = np.cumsum(down, axis=0) - down
    out: Floats = (up * (below + down / 2)).sum(axis=0) / (up.sum(axis=0) * down.sum(axis=0))
    return out


def scored_classes(test: HeldOut, probabilities: Floats, decided: Ints) -> Scored:
    """Figures of a classifier.

    ``probabilities`` has shape (n, classes), ``decided`` holds the class named for each patient.
    """
    figures = _decisions(test, decided)
    there = np.flatnonzero(test.counts)
    if len(there) < 2:
        return Scored(Scores({"auroc": ONE_CLASS} | figures), ONE_CLASS, None, 0.0)
    wanted = [1] if len(test.classes) == 2 else there.tolist()
    one = np.ones((len(test.y), 1))
    weights = np.column_stack([one, test.weights])
    each = [auroc_draws(test.y == c, probabilities[:, c], weights) for c in wanted]
    mean = np.mean(each, axis=0)
    aurocs: dict[str, Measured] = {"auroc": _share(mean, test.rarest())}
    if len(wanted) > 1:
        few = np.minimum(test.counts, len(test.y) - test.counts)
        aurocs |= {f"auroc/{test.classes[c]}": _share(d, int(few[c])) for c, d in zip(wanted, each, strict=True)}
    return Scored(Scores(aurocs | figures), float(mean[0]), mean[1:], test.rarest() - 1)


def _decisions(test: HeldOut, decided: Ints) -> dict[str, Measured]:
    """Accuracy, and sensitivity, precision and F1 by class, weighted by the classes' patients, and unweighted."""
    k = len(test.classes)
    cells = np.zeros((len(test.y), k * k))
    cells[np.arange(len(test.y)), test.y * k + decided] = 1.0
    # Column 0 is the patients themselves, each counting once; the others are the resamples.
    confusion = np.column_stack([cells.sum(axis=0), cells.T @ test.weights]).reshape(k, k, -1)
    n, hit = confusion.sum(axis=(0, 1)), np.einsum("iij->ij", confusion)
    own, named = confusion.sum(axis=1), confusion.sum(axis=0)
    size = len(test.y)
    out: dict[str, Measured] = {
        "accuracy": _share(hit.sum(axis=0) / n, size),
        "majority_accuracy": _share(own.max(axis=0) / n, size),
    }
    with np.errstate(invalid="ignore", divide="ignore"):
        by_class = {
            "sensitivity": hit / own,
            "precision": np.where(named > 0, hit / named, 0.0),  # a class that is never named: no alarm is right
            "f1": 2 * hit / (own + named),
        }
    there = np.flatnonzero(test.counts)
    for name, values in by_class.items():
        for c in range(k):
            label = f"{name}/{test.classes[c]}"
            out[label] = _share(values[c], int(test.counts[c])) if test.counts[c] else ONE_CLASS
        share = own[there] / own[there].sum(axis=0)
        out[f"{name}/weighted"] = _share((share * values[there]).sum(axis=0), test.rarest())
        out[f"{name}/macro"] = _share(values[there].mean(axis=0), test.rarest())
    return out


def scored_number(test: HeldOut, predicted: Floats) -> Scored:
    """R2, root mean squared and mean absolute error of a regression."""
    weights = np.column_stack([np.ones(len(test.y)), test.weights])
    weights = weights / weights.sum(axis=0)
    error = test.y - predicted
    squared = error**2 @ weights
    centred = test.y - test.y.mean()  # a variance from squares of large numbers would lose all digits
    variance = centred**2 @ weights - (centred @ weights) ** 2
    n = len(test.y)
    if n < 2 or np.ptp(test.y) == 0:
        constant = NotMeasured("undefined: all test patients have the same outcome")
        figures: dict[str, Measured] = {"r2": constant}
        return Scored(Scores(figures), constant, None, 0.0)
    r2 = 1 - squared / np.maximum(variance, 1e-300)
    figures = {
        "r2": _estimated(r2, n),
        "rmse": _estimated(np.sqrt(squared), n),
        "mae": _estimated(np.abs(error) @ weights, n),
    }
    return Scored(Scores(figures), float(r2[0]), r2[1:], n - 1)


def _share(values: Floats, few: int) -> Estimate:
    """As :func:`_estimated`, of a figure between 0 and 1."""
    found = _estimated(values, few)
    if isinstance(found.interval, NotMeasured):
        return found
    return Estimate(found.value, Interval(max(0.0, found.interval.low), min(1.0, found.interval.high)))


def _estimated(values: Floats, few: int) -> Estimate:
    """Put a figure and its interval together: value in the first place, resamples in the others.

    ``few`` is how many patients it rests on.
    """
    value = float(values[0])
    if few < LEAST_PER_CLASS:
        return Estimate(value, FEW)
    interval = percentile_interval(values[1:], few - 1)
    return Estimate(value, Interval(min(interval.low, value), max(interval.high, value)))


def lost(better: Scored, other: Scored) -> Measured:
    """Headline figure of ``better`` minus that of ``other``, with the interval of the paired difference."""
    for scored in (better, other):
        if isinstance(scored.headline, NotMeasured):
            return scored.headline
    assert better.draws is not None, "what has a headline has draws"
    assert other.draws is not None
    assert not isinstance(better.headline, NotMeasured)
    assert not isinstance(other.headline, NotMeasured)
    difference = better.headline - other.headline
    if better.freedom < LEAST_PER_CLASS - 1:
        return Estimate(difference, FEW)
    interval = percentile_interval(better.draws - other.draws, better.freedom)
    return Estimate(difference, Interval(min(interval.low, difference), max(interval.high, difference)))


def not_scored(why: NotMeasured) -> Scored:
    """What stands where a model could not be trained."""
    return Scored(Scores({"auroc": why}), why, None, 0.0)
