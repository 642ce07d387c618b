"""What an attacker of a released model sees: the model, and how it was trained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pettoolkit.attacks.models.recipe import Recipe
from pettoolkit.attacks.protocol import NO_BOUND, Group, View
from pettoolkit.models.dense import DenseNet
from pettoolkit.models.predictor import predictor
from pettoolkit.models.training import to_params
from pettoolkit.privacy.bounds import AttackBound
from pettoolkit.records import Models, ModelSpec, NotMeasured

Floats = npt.NDArray[np.float64]

SURE = 1e-6
"""Probabilities nearer to 0 and 1 are not told apart (models that give probabilities only)."""


@dataclass(frozen=True, kw_only=True)
class ModelView(View):
    """A model (``*``), or one per hospital; the training; and what the guarantee leaves room for.

    ``validation`` are the patients who chose the model's epoch or round (None: not known); ``note`` stands beside every
    figure.
    """

    model: ModelSpec
    weights: Mapping[str, Mapping[str, npt.NDArray[Any]]]
    recipe: Recipe
    bound: AttackBound | NotMeasured = NO_BOUND
    note: str = ""
    validation: Group | None = None

    def logits(self, x: Tensor, site: Tensor, names: tuple[str, ...]) -> Floats:
        """Logits (n,) of encoded rows by the model of their hospital; ``site`` numbers ``names``."""
        if Models.SHARED in self.weights:
            return self._of(Models.SHARED, x)
        out = np.zeros(len(x))
        for number, name in enumerate(names):
            rows = (site == number).numpy()
            if rows.any() and name in self.weights:
                out[rows] = self._of(name, x[rows])
        return out

    def _of(self, name: str, x: Tensor) -> Floats:
        net = self.recipe.net
        if isinstance(net, DenseNet):
            dense: Floats = net.logits(to_params(self.weights[name]), x).numpy().astype(np.float64)
            return dense
        scores = predictor(self.model, x.shape[1]).scores(self.weights[name], x)
        return logit_of(scores.astype(np.float64))


def logit_of(probability: Floats) -> Floats:
    """Log odds of probabilities, kept finite."""
    p = np.clip(probability, SURE, 1 - SURE)
    odds: Floats = np.log(p / (1 - p))
    return odds
