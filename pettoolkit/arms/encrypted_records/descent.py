"""Which rows are trained on, and the iterates of training: the same on ciphertexts and in the clear.

Accelerated gradient descent (Nesterov 1983, with weights (t - 1)/(t + 2)): the coordinator takes the step from a point
ahead of the last weights, and the hospital that refreshes the weights looks ahead, which costs nothing there.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pettoolkit.encryption.records import RecordsPlan, plain_step

Floats = npt.NDArray[np.float64]


def shares(patients: Mapping[str, int], rows: int) -> dict[str, int]:
    """How many rows each hospital gives: proportional to its patients, all of them if there are no more than ``rows``.

    Largest remainders are rounded up first, ties by name.
    """
    total = sum(patients.values())
    if total <= rows:
        return dict(sorted(patients.items()))
    exact = {site: rows * n / total for site, n in patients.items()}
    out = {site: int(value) for site, value in sorted(exact.items())}
    for site in sorted(exact, key=lambda s: (out[s] - exact[s], s))[: rows - sum(out.values())]:
        out[site] += 1
    return out


def ahead(new: Floats, old: Floats, number: int) -> Floats:
    """From where step ``number + 1`` is taken, after steps ``number - 1`` and ``number`` gave ``old`` and ``new``."""
    point: Floats = new + (number - 1) / (number + 2) * (new - old)
    return point


def gain(iterations: int) -> float:
    """How far an error of decrypted weights gets into the last ones: root mean square over the steps, which tau counts.

    Looking ahead carries an error on, most where the loss is flat: there ``w + (t-1)/(t+2) (w - w')`` adds
    ``(t-1) t (t+1) / (k (k+1) (k+2))`` of step t's error after each later step k. A test compares it with every
    curvature for which the descent is stable.
    """
    t = np.arange(1, iterations + 1, dtype=np.float64)
    reached = 1 + (t - 1) / 2 - (t - 1) * t * (t + 1) / (2 * iterations * (iterations + 1))
    return float(np.sqrt(np.mean(reached**2)))


def train_plain(plan: RecordsPlan, x: Floats, y: Floats, start: Floats, iterations: int) -> Floats:
    """The same training on rows in the clear: x (rows, features) with a leading 1, y (rows,), start (features,)."""
    weights = point = start
    for number in range(1, iterations + 1):
        new = plain_step(plan, x, y, point)
        weights, point = new, ahead(new, weights, number)
    return weights
