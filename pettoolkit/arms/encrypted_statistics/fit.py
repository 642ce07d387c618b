"""Regression from sums: each round's sums and step, and what an error of a sum does to what is released.

The linear predictor of ridge *linear* regression is put on the scale of a logistic model by the first-order expansion
of the logit at the mean outcome m: ``logit p(x) = logit m + (y^(x) - m) / (m (1 - m))``. That is one Newton step of
logistic regression from the constant model; it changes no order of patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.encryption.matrix import NormalSums, linear_sums, logistic_sums, newton_step, standard_errors
from pettoolkit.records import RunSpec

Floats = npt.NDArray[np.float64]
RAREST = 1e-3
"""The mean outcome is kept within [RAREST, 1 - RAREST] in the link."""
LEAST = 1e-3
"""Penalty of the intercept under noise."""
NO_ERROR = 1e-3
"""A smaller standard error means that a column is (nearly) zero in all rows: nothing was learnt of it."""


def sums(spec: RunSpec, x: Floats, y: Floats, weights: Floats) -> NormalSums:
    """One hospital's sums of a round; x (n, d) with a leading 1, y (n,), weights (d,)."""
    return linear_sums(x, y) if spec.options["method"] == "one_shot" else logistic_sums(x, y, weights)


def ridge_of(spec: RunSpec, features: int) -> Floats:
    """Penalty of each weight, shape (features,): none on the intercept."""
    ridge = np.full(features, float(spec.options["ridge"]))
    ridge[0] = 0.0
    return ridge


def step(spec: RunSpec, total: NormalSums, weights: Floats, extra_ridge: float = 0.0) -> dict[str, Floats]:
    """The round's fit from the sums of all hospitals: ``weights``, ``errors``, ``last_step`` and their ``gains``.

    Newton: standard errors (d,) are those at the weights from which the last step was taken, which are the fit's own
    once steps are short.
    """
    ridge = ridge_of(spec, len(weights))
    ridge[1:] += extra_ridge
    if extra_ridge:
        ridge[0] = LEAST  # a noisy matrix may say nothing of the intercept
    if spec.options["method"] == "one_shot":
        return _linear(total, ridge)
    fitted = newton_step(total, weights, ridge)
    moved = fitted - weights
    errors = standard_errors(total, ridge)
    inverse = np.linalg.inv(total.gram + np.diag(ridge))
    rows = np.linalg.norm(inverse, axis=1) * total.rows
    of_weights = rows * np.sqrt(1.0 + moved @ moved)
    # d diag(H^-1 G H^-1) from an error E of G: 2 (V E H^-1) and (H^-1 E H^-1), and a square root on top
    spread = np.linalg.norm(inverse @ total.gram @ inverse, axis=1)
    of_errors = rows * (2 * spread + np.linalg.norm(inverse, axis=1)) / (2 * np.maximum(errors, NO_ERROR))
    return {
        "weights": fitted,
        "errors": errors,
        "last_step": np.array([np.abs(moved).max()]),
        "gains": np.concatenate([of_weights, of_errors, [of_weights.max()]]),
    }


def _linear(total: NormalSums, ridge: Floats) -> dict[str, Floats]:
    beta = newton_step(total, np.zeros(len(ridge)), ridge)
    mean = float(np.clip(total.moment[0] / total.rows, RAREST, 1 - RAREST))
    inverse = np.linalg.inv(total.gram + np.diag(ridge))
    gains = np.linalg.norm(inverse, axis=1) * total.rows * np.sqrt(1.0 + beta @ beta) / (mean * (1 - mean))
    return {"weights": linked(beta, mean), "gains": gains}


def linked(beta: Floats, mean: float) -> Floats:
    """Weights of the logistic model that stands for linear regression (see above); beta (d,), intercept first."""
    weights: Floats = beta / (mean * (1 - mean))
    weights[0] = np.log(mean / (1 - mean)) + (beta[0] - mean) / (mean * (1 - mean))
    return weights


@dataclass(frozen=True)
class Released:
    """What leaves the hospitals: one vector, and how strongly an error of a sum enters each value of it, at most.

    Gains are functions of decrypted sums, and the largest is told with the noise; so they are powers of two.
    """

    values: Floats
    gains: Floats
    features: int

    def named(self, noisy: Floats) -> dict[str, npt.NDArray[Any]]:
        """A vector like ``values`` as the model's arrays, float32, and beside them what else the fit has."""
        d = self.features
        out: dict[str, npt.NDArray[Any]] = {
            "layer0.weight": noisy[1:d].astype(np.float32)[None, :],
            "layer0.bias": noisy[:1].astype(np.float32),
        }
        if len(noisy) > d:
            out["standard_errors"] = noisy[d : 2 * d].astype(np.float32)
            out["last_step"] = noisy[2 * d :].astype(np.float32)
        return out


def released(spec: RunSpec, fitted: Mapping[str, Floats]) -> Released:
    """What is released of a round's fit; under noise the weights alone, as errors would not count it."""
    names = ("weights", "errors", "last_step") if spec.dp is None else ("weights",)
    values = np.concatenate([fitted[name] for name in names if name in fitted])
    gains = np.exp2(np.ceil(np.log2(fitted["gains"][: len(values)])))
    return Released(values, gains, len(fitted["weights"]))
