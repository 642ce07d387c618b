"""Gradient boosting: scikit-learn grows the trees, and they leave it as plain arrays.

Nothing of scikit-learn is pickled: a fitted model is its trees' nodes in five arrays, which are checked before they
are used, and scored here. A test compares the scores with scikit-learn's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]

CHUNK = 4096
"""Rows that are scored at once: keeps rows times trees in the processor's cache."""


@dataclass(frozen=True)
class Boosting:
    """Settings of scikit-learn's histogram gradient boosting (after Ke et al. 2017, LightGBM, NeurIPS).

    Chosen on the PhysioNet data (three splits, pooled): 20 to 100 patients per leaf and 15 or 31 leaves differ
    by less than .01 AUROC.
    """

    trees: int = 200
    learning_rate: float = 0.05
    leaves: int = 15
    patients_per_leaf: int = 30
    ridge: float = 5.0


@dataclass(frozen=True)
class Forest:
    """Trees one behind the other; the first is a single leaf that holds the starting log-odds.

    Parameters
    ----------
    root
        Node of each tree's root, shape (trees,).
    feature, threshold
        A node's rows with ``x[feature] <= threshold`` go left, shape (nodes,).
    left, right
        Nodes of the children, shape (nodes,). A leaf is its own child; every other child comes after its parent,
        so that no walk goes round in circles.
    value
        What a leaf adds to the log-odds (float64), shape (nodes,); 0 elsewhere.
    """

    root: Ints
    feature: Ints
    threshold: Floats
    left: Ints
    right: Ints
    value: Floats

    @classmethod
    def of(cls, arrays: Mapping[str, npt.NDArray[Any]], n_features: int) -> Forest:
        """Read arrays that came from somewhere else.

        Raises
        ------
        ValueError
            If they are no forest over ``n_features`` features.
        """
        names = [f.name for f in fields(cls)]
        if sorted(arrays) != sorted(names):
            raise ValueError(
                f"arrays of gradient boosting must be {', '.join(names)} (got {', '.join(sorted(arrays))})"
            )
        forest = cls(**{name: arrays[name] for name in names})
        forest._check(n_features)
        return forest

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The forest as named arrays."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @property
    def trees(self) -> int:
        """Number of trees, the starting leaf included."""
        return len(self.root)

    def first(self, trees: int) -> Forest:
        """The forest of the first trees."""
        end = int(self.root[trees]) if trees < self.trees else len(self.value)
        nodes = (self.feature, self.threshold, self.left, self.right, self.value)
        return Forest(self.root[:trees], *(a[:end] for a in nodes))  # type: ignore[arg-type]

    def scores(self, x: Matrix) -> Floats:
        """Predicted probabilities of shape (n,) for encoded rows of shape (n, features)."""
        logits = [self._added(part).sum(axis=1) for part in _chunks(x)]
        return _sigmoid(np.concatenate(logits)) if logits else np.zeros(0)

    def staged_losses(self, x: Matrix, y: Matrix) -> list[float]:
        """Summed binary cross-entropy after each tree, shape (trees,)."""
        total = np.zeros(self.trees)
        for part, outcome in zip(_chunks(x), _chunks(y), strict=True):
            logits = np.cumsum(self._added(part), axis=1)
            total += (np.logaddexp(0.0, logits) - outcome[:, None] * logits).sum(axis=0)
        return [float(loss) for loss in total]

    def _added(self, x: Matrix) -> Floats:
        """What each tree adds to the log-odds of each row, shape (n, trees)."""
        rows = np.arange(len(x))[:, None]
        node = np.broadcast_to(self.root, (len(x), self.trees))
        while True:
            goes_left = x[rows, self.feature[node]] <= self.threshold[node]
            child = np.where(goes_left, self.left[node], self.right[node])
            if np.array_equal(child, node):
                return np.asarray(self.value[node])
            node = child

    def _check(self, n_features: int) -> None:
        nodes = len(self.value)
        for name in ("root", "feature", "left", "right"):
            array: npt.NDArray[Any] = getattr(self, name)
            if array.ndim != 1 or array.dtype.kind != "i" or (name != "root" and len(array) != nodes):
                raise ValueError(f"array {name}: must be whole numbers, one per {'tree' if name == 'root' else 'node'}")
        for name in ("threshold", "value"):
            array = getattr(self, name)
            if array.shape != (nodes,) or array.dtype != np.float64 or not np.isfinite(array).all():
                raise ValueError(f"array {name}: must be finite float64 numbers, one per node")
        if not len(self.root) or self.root[0] != 0 or (np.diff(self.root) <= 0).any() or self.root[-1] >= nodes:
            raise ValueError("array root: must start at node 0 and go up")
        if ((self.feature < 0) | (self.feature >= n_features)).any():
            raise ValueError(f"array feature: must be below {n_features}, the features")
        own = np.arange(nodes)
        end = np.append(self.root[1:], nodes)[np.searchsorted(self.root, own, side="right") - 1]
        for name in ("left", "right"):
            child: Ints = getattr(self, name)
            if ((child < own) | (child >= end)).any() or ((child == own) != (self.left == own)).any():
                raise ValueError(f"array {name}: a child must come after its parent in the same tree")


def fit_forest(x: Matrix, y: Matrix, settings: Boosting, prevalence: float | None = None) -> Forest:
    """Grow a forest; nothing is drawn at random.

    Rows of one class, or none at all, leave nothing to learn: the forest is then its starting leaf alone.

    Parameters
    ----------
    x, y
        Encoded rows of shape (n, features) without NaN, and the binary outcome.
    prevalence
        Published share of positives: where a one-class forest starts; the boosting itself starts from the rows.
    """
    if len(np.unique(y)) < 2:
        share = 0.5 if prevalence is None else prevalence
        return _one_leaf(float(np.log(share / (1 - share))))
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    model = HistGradientBoostingClassifier(
        max_iter=settings.trees,
        learning_rate=settings.learning_rate,
        max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.patients_per_leaf,
        l2_regularization=settings.ridge,
        early_stopping=False,  # it would hold out rows of its own; every model is stopped on the same patients
        random_state=0,  # draws the rows from which bins are made, which only happens above 200,000 rows
    )
    with threadpool_limits(1, user_api="openmp"):
        model.fit(x, y)
    return _read(model)


def _read(model: Any) -> Forest:
    """The nodes of a fitted scikit-learn model, which has no public way to them (a test compares the scores)."""
    forest = _one_leaf(float(model._baseline_prediction[0, 0]))
    parts = {name: [array] for name, array in forest.arrays().items()}
    start = 1
    for (tree,) in model._predictors:
        nodes = tree.nodes
        own = np.arange(len(nodes))
        leaf = nodes["is_leaf"].astype(bool)
        parts["root"].append(np.array([start]))
        parts["feature"].append(np.where(leaf, 0, nodes["feature_idx"]))
        # the largest number instead of infinity, which is what the last bin ends in
        largest = np.finfo(np.float64).max
        parts["threshold"].append(np.where(leaf, 0.0, np.clip(nodes["num_threshold"], -largest, largest)))
        parts["left"].append(start + np.where(leaf, own, nodes["left"]))
        parts["right"].append(start + np.where(leaf, own, nodes["right"]))
        parts["value"].append(np.where(leaf, nodes["value"], 0.0))
        start += len(nodes)
    kinds = {f.name: np.float64 if f.name in ("threshold", "value") else np.int32 for f in fields(Forest)}
    return Forest(**{name: np.concatenate(arrays).astype(kinds[name]) for name, arrays in parts.items()})


def _one_leaf(value: float) -> Forest:
    zero = np.zeros(1, np.int32)
    return Forest(zero, zero, np.zeros(1), zero, zero, np.array([value]))


def _chunks(values: Matrix) -> list[Matrix]:
    return [values[i : i + CHUNK] for i in range(0, len(values), CHUNK)]


def _sigmoid(logits: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-logits)))
