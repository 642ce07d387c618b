"""The models of a declaration: scikit-learn's, with one way to fit and one form of answer for all kinds of outcome."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from pettoolkit.evaluation.quality.tables import Array, Floats, Ints, Task
from pettoolkit.models.boosting import Boosting

Matrix = npt.NDArray[np.float32]
Name = Literal["logistic", "gradient_boosting", "random_forest"]

TREES = 500
"""Of the random forest, each split among the square root of the features (Breiman 2001)."""

DECIMALS = 9
"""Kept of a probability: a forest adds its trees up in any order, and ties must not depend on it."""


def build(name: Name, task: Task, seed: int, *, trees: int | None = None) -> Any:
    """Make an unfitted model.

    ``logistic`` is a ridge regression where the outcome is a number. Gradient boosting has the settings of
    :class:`pettoolkit.models.boosting.Boosting`.
    """
    from sklearn.ensemble import (
        HistGradientBoostingClassifier,
        HistGradientBoostingRegressor,
        RandomForestClassifier,
        RandomForestRegressor,
    )
    from sklearn.linear_model import LogisticRegression, Ridge

    number = task == "number"
    if name == "logistic":
        return Ridge(alpha=1.0) if number else LogisticRegression(C=1.0, max_iter=1000)
    if name == "random_forest":
        forest = RandomForestRegressor if number else RandomForestClassifier
        return forest(n_estimators=trees or TREES, max_features="sqrt", n_jobs=_cores(), random_state=seed)
    boosted = HistGradientBoostingRegressor if number else HistGradientBoostingClassifier
    settings = Boosting()
    return boosted(
        max_iter=trees or settings.trees,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.patients_per_leaf,
        l2_regularization=settings.ridge,
        early_stopping=False,
        random_state=seed,
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Fitted:
    """A fitted model that answers for all public classes, also those that its rows did not have.

    Attributes
    ----------
    prior
        Share of each class that decisions are made against, shape (classes,); empty for a number.
    """

    model: Any
    classes: int
    prior: Floats

    def answer(self, x: Matrix) -> Floats:
        """Probabilities of shape (n, classes); of a number the predictions, shape (n,)."""
        if not self.classes:
            return np.asarray(self.model.predict(x), dtype=np.float64)
        some = np.round(self.model.predict_proba(x), DECIMALS)
        out = np.zeros((len(x), self.classes))
        out[:, self.model.classes_.astype(int)] = some
        return out

    def decide(self, probabilities: Floats) -> Ints:
        """Give the class that gained most over its prior, shape (n,): of two, whether p is at least the prevalence.

        The largest probability would hardly ever name a rare class.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(self.prior > 0, probabilities / self.prior, 0.0)
        last = gain.shape[1] - 1
        best: Ints = last - np.argmax(gain[:, ::-1], axis=1)  # of equal ones the last: p = prevalence is an alarm
        return best


def fit(model: Any, x: Matrix, y: Array, classes: int, prior: Floats | None = None) -> Fitted | None:
    """Fit a model; None if the rows have fewer than two classes (or values), which none can learn from.

    Parameters
    ----------
    classes
        How many public classes there are; 0 for a number.
    prior
        Published shares of the classes; those of ``y`` if None.
    """
    if len(np.unique(y)) < 2:
        return None
    model.fit(x, y)
    shares = np.bincount(y, minlength=classes) / len(y) if classes else np.zeros(0)
    return Fitted(model, classes, shares if prior is None or not classes else prior)


def out_of_fold(
    make: Callable[[], Any], x: Matrix, y: Array, classes: int, folds: int, rng: np.random.Generator
) -> Floats | None:
    """Probabilities of each row from a model that did not see it, (n, classes); None where a class is too rare.

    Rows are dealt to the folds at random within each class (Stone 1974).
    """
    counts = np.bincount(y, minlength=classes)
    if (counts > 0).sum() < 2 or counts[counts > 0].min() < folds:
        return None
    fold = np.empty(len(y), dtype=np.int64)
    for c in range(classes):
        rows = rng.permutation(np.flatnonzero(y == c))
        fold[rows] = np.arange(len(rows)) % folds
    out = np.zeros((len(y), classes))
    for k in range(folds):
        fitted = fit(make(), x[fold != k], y[fold != k], classes)
        assert fitted is not None, "each class is in each fold"
        out[fold == k] = fitted.answer(x[fold == k])
    return out


def one_thread() -> Any:
    """Keep OpenMP and BLAS to one thread, as a context: on small tables several mostly wait for each other.

    The forest's trees grow on all cores all the same: joblib starts their threads, not OpenMP.
    """
    import sklearn.ensemble  # only libraries that are loaded are kept to it  # noqa: F401
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limits=1)
