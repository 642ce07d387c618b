"""One protocol for all models: candidates of one training, their losses, one picked, scores of patients.

A model is named arrays and nothing else, so that it travels in a message and lies in an artifact
without anything being unpickled. A training makes *candidates* (a network after each epoch, a forest after each tree);
validation patients, wherever they are, say which is kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pettoolkit.models.boosting import Boosting, Forest, fit_forest
from pettoolkit.models.dense import DenseNet, Params, build
from pettoolkit.models.seeding import torch_generator
from pettoolkit.models.training import AdamSettings, Rows, adam, to_arrays, to_params, validation_losses
from pettoolkit.records import ModelSpec

Arrays = Mapping[str, npt.NDArray[Any]]

LEAST_STEPS = 1500
"""Steps below which training is not cut off: 40 epochs of a small table would stop long before it has converged."""

FIXED_STEPS = {"linear": 2680, "hidden": 1000}
"""Steps where nobody may be asked which is best: without hidden layers until it has converged, with some until
about where early stopping ends without DP (it starts to follow the noise after that)."""

SNAPSHOTS = 60
"""Most candidates that are kept of one training."""

FIXED_TREES = 100
"""Trees where nobody may be asked how many are best; about where early stopping ends without DP."""


@dataclass(frozen=True)
class TrainingSettings:
    """How to train in one place, whatever the model; None takes the model's own default.

    ``epochs`` are passes over the rows: for gradient boosting, trees.
    """

    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    prevalence: float | None = None


class Predictor(Protocol):
    """A model of a fixed number of features."""

    def fit(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """Train and return all candidates in one set of arrays, as they travel in one message.

        Parameters
        ----------
        labels
            Tell random streams apart (the hospital's name, for example).
        """
        ...

    def fit_fixed(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """Train a model for a length fixed in advance: nothing but ``rows`` is read."""
        ...

    def losses(self, candidates: Arrays, rows: Rows) -> list[float]:
        """Summed loss of each candidate on the rows, so that sums over hospitals are exact."""
        ...

    def pick(self, candidates: Arrays, index: int) -> dict[str, npt.NDArray[Any]]:
        """One candidate as a model."""
        ...

    def scores(self, model: Arrays, x: Tensor) -> npt.NDArray[np.float32]:
        """Predicted probabilities of shape (n,) for encoded rows of shape (n, features)."""
        ...

    def check(self, model: Arrays) -> None:
        """See that arrays are a model of this kind.

        Raises
        ------
        ValueError
            Saying which array is wrong.
        """
        ...


def predictor(spec: ModelSpec, n_features: int) -> Predictor:
    """The predictor of a model spec."""
    if spec.name == "gradient_boosting":
        return ForestPredictor(n_features)
    return DensePredictor(build(spec, n_features))


def lowest(losses: list[float]) -> int:
    """Index of the first candidate with the lowest loss."""
    return min(range(len(losses)), key=losses.__getitem__)


@dataclass(frozen=True)
class DensePredictor:
    """Logistic regression and the MLP; candidates are stacked along a new first axis."""

    net: DenseNet

    def fit(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """See :class:`Predictor`."""
        if settings.epochs is None:
            least = math.ceil(LEAST_STEPS / self._steps_per_epoch(rows, settings))
            settings = replace(settings, epochs=max(least, AdamSettings().epochs))
        snapshots = [to_arrays(params) for params in self._snapshots(rows, settings, seed, *labels)]
        return {name: np.stack([s[name] for s in snapshots]) for name in snapshots[0]}

    def fit_fixed(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """See :class:`Predictor`."""
        fixed = FIXED_STEPS["hidden" if self.net.hidden else "linear"]
        epochs = math.ceil(fixed / self._steps_per_epoch(rows, settings))
        return to_arrays(self._snapshots(rows, replace(settings, epochs=epochs), seed, *labels)[-1])

    def losses(self, candidates: Arrays, rows: Rows) -> list[float]:
        """See :class:`Predictor`."""
        count = len(next(iter(candidates.values())))
        return validation_losses(self.net, [to_params(self.pick(candidates, i)) for i in range(count)], rows)

    def pick(self, candidates: Arrays, index: int) -> dict[str, npt.NDArray[Any]]:
        """See :class:`Predictor`."""
        return {name: stacked[index] for name, stacked in candidates.items()}

    def scores(self, model: Arrays, x: Tensor) -> npt.NDArray[np.float32]:
        """See :class:`Predictor`."""
        scores: npt.NDArray[np.float32] = self.net.scores(to_params(model), x).numpy()
        return scores

    def check(self, model: Arrays) -> None:
        """See :class:`Predictor`."""
        shapes = {name: array.shape for name, array in model.items()}
        for name, shape in self.net.shapes().items():
            if shapes.get(name) != shape:
                raise ValueError(f"array {name}: shape {shapes.get(name)}, must be {shape}")

    @staticmethod
    def _steps_per_epoch(rows: Rows, settings: TrainingSettings) -> int:
        return max(1, math.ceil(len(rows) / (settings.batch_size or AdamSettings().batch_size)))

    def _snapshots(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> list[Params]:
        default = AdamSettings()
        adam_settings = AdamSettings(
            epochs=settings.epochs or default.epochs,
            batch_size=settings.batch_size or default.batch_size,
            learning_rate=settings.learning_rate or default.learning_rate,
        )
        adam_settings = replace(adam_settings, keep_every=math.ceil(adam_settings.epochs / SNAPSHOTS))
        initial = self.net.init(seed, settings.prevalence)
        return adam(self.net, initial, rows, adam_settings, torch_generator(seed, "order", *labels))


@dataclass(frozen=True)
class ForestPredictor:
    """Gradient boosting; the candidates are one forest, of which the first trees are kept."""

    n_features: int

    def fit(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """See :class:`Predictor`; nothing is drawn, so that seed and labels change nothing."""
        default = Boosting()
        boosting = Boosting(
            trees=settings.epochs or default.trees, learning_rate=settings.learning_rate or default.learning_rate
        )
        return fit_forest(rows.x.numpy(), rows.y.numpy(), boosting, settings.prevalence).arrays()

    def fit_fixed(self, rows: Rows, settings: TrainingSettings, seed: int, *labels: str) -> Arrays:
        """See :class:`Predictor`."""
        trees = min(FIXED_TREES, settings.epochs or FIXED_TREES)
        return self.fit(rows, replace(settings, epochs=trees), seed, *labels)

    def losses(self, candidates: Arrays, rows: Rows) -> list[float]:
        """See :class:`Predictor`."""
        return self._forest(candidates).staged_losses(rows.x.numpy(), rows.y.numpy())

    def pick(self, candidates: Arrays, index: int) -> dict[str, npt.NDArray[Any]]:
        """See :class:`Predictor`."""
        return self._forest(candidates).first(index + 1).arrays()

    def scores(self, model: Arrays, x: Tensor) -> npt.NDArray[np.float32]:
        """See :class:`Predictor`."""
        return self._forest(model).scores(x.numpy()).astype(np.float32)

    def check(self, model: Arrays) -> None:
        """See :class:`Predictor`."""
        self._forest(model)

    def _forest(self, arrays: Arrays) -> Forest:
        return Forest.of(arrays, self.n_features)
