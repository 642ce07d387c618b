"""Sums that hospitals can encrypt and add to fit a regression exactly: X'WX and X'r, or X'X and X'y.

Newton's method on sums over all hospitals is Newton's method on the pooled rows. The sums travel as the upper
triangle, the moment and the number of rows, divided by the public number of all rows so that every value is in [-1, 1]
(rows must be in [-1, 1] too) and one scheme with clip 1 serves any number of features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pettoolkit.encryption.errors import OutOfRange
from pettoolkit.encryption.packing import Vector, symmetric, upper_triangle
from pettoolkit.errors import BadInput


@dataclass(frozen=True, eq=False)
class NormalSums:
    """A symmetric matrix of shape (d, d), a moment of shape (d,), and the number of rows behind them."""

    gram: Vector
    moment: Vector
    rows: float

    def pack(self, total_rows: int, limit: float = 1.0) -> Vector:
        """One vector of shape (packed_size(d),), divided by the public number of rows of all hospitals.

        Raises
        ------
        OutOfRange
            If a value leaves [-limit, limit] (noise needs more than 1): a row is beyond [-1, 1], or this hospital
            alone has more rows than ``total_rows``.
        """
        vector = np.concatenate([upper_triangle(self.gram), self.moment, [self.rows]]) / total_rows
        if not (np.abs(vector) <= limit).all():
            raise OutOfRange(
                f"encrypted statistics: sums of {self.rows:g} rows exceed what {total_rows} rows in [-1, 1] can give; "
                "scale the features to [-1, 1]"
            )
        return vector

    @classmethod
    def unpack(cls, vector: Vector, features: int, total_rows: int) -> NormalSums:
        """Inverse of :meth:`pack`, of one hospital's sums or of the sum of all."""
        if vector.shape != (packed_size(features),):
            raise BadInput(f"encrypted statistics: {vector.shape} values are not the sums of {features} features")
        triangle = features * (features + 1) // 2
        scaled = vector * total_rows
        return cls(symmetric(scaled[:triangle], features), scaled[triangle:-1].copy(), float(scaled[-1]))


def packed_size(features: int) -> int:
    """Length of the packed sums of ``features`` columns."""
    return features * (features + 1) // 2 + features + 1


def logistic_sums(x: Vector, y: NDArray[Any], weights: Vector) -> NormalSums:
    """``X'WX`` and ``X'(y - p)`` of one hospital, W = p (1 - p) at ``weights``; x (n, d), y (n,), weights (d,)."""
    p = 1.0 / (1.0 + np.exp(-np.clip(x @ weights, -500.0, 500.0)))
    return NormalSums((x * (p * (1.0 - p))[:, None]).T @ x, x.T @ (y - p), float(len(x)))


def linear_sums(x: Vector, y: NDArray[Any]) -> NormalSums:
    """``X'X`` and ``X'y`` of one hospital; x (n, d), y (n,)."""
    return NormalSums(x.T @ x, x.T @ np.asarray(y, dtype=np.float64), float(len(x)))


def newton_step(sums: NormalSums, weights: Vector, ridge: Vector) -> Vector:
    """Next weights, maximising the log-likelihood less ``sum ridge w^2 / 2``; ridge of shape (d,), 0 for the intercept.

    With :func:`linear_sums` and weights 0 one step is ridge linear regression.
    """
    hessian = sums.gram + np.diag(ridge)
    step: Vector = np.linalg.solve(hessian, sums.moment - ridge * weights)
    return weights + step


def standard_errors(sums: NormalSums, ridge: Vector) -> Vector:
    """Compute standard errors of penalised logistic weights, (d,): ``sqrt diag(H^-1 X'WX H^-1)``, H = X'WX + ridge.

    A column that is zero in all rows has the error 0; rounding errors of encryption below it are cut off.
    """
    inverse = np.linalg.inv(sums.gram + np.diag(ridge))
    errors: Vector = np.sqrt(np.maximum(np.diag(inverse @ sums.gram @ inverse), 0.0))
    return errors
