"""What a hospital with the key sees of the others where sums of rows, or steps on encrypted rows, are decrypted."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pettoolkit.attacks.insider.views import OTHERS, ObservedSum
from pettoolkit.models.dense import Params
from pettoolkit.models.training import Rows

Floats = npt.NDArray[np.float64]
Share = Callable[[Tensor, Tensor, str], Floats]


def design(x: Tensor) -> Floats:
    """Rows with a leading 1, (n, 1 + features)."""
    return np.hstack([np.ones((len(x), 1)), x.double().numpy()])


def moments(weights: Floats, *, logistic: bool, usable: Callable[[Tensor], Floats] = design) -> Share:
    """What one patient adds to ``X'WX`` (upper triangle) and ``X'(y - p)`` at these weights, or to ``X'X``, ``X'y``.

    ``usable`` makes the rows that are summed (clipped ones, under differential privacy).
    """

    def share(x: Tensor, y: Tensor, site: str) -> Floats:
        rows, outcomes = usable(x), y.double().numpy()
        curvature, rest = np.ones(len(rows)), outcomes
        if logistic:
            p = 1 / (1 + np.exp(-np.clip(rows @ weights, -500, 500)))
            curvature, rest = p * (1 - p), outcomes - p
        i, j = np.triu_indices(rows.shape[1])
        return np.hstack([rows[:, i] * rows[:, j] * curvature[:, None], rows * rest[:, None]])

    return share


def cubic_steps(point: Floats, sigmoid: tuple[float, float]) -> Share:
    """What one patient adds to a step on encrypted rows from this point (:func:`encryption.records.plain_step`)."""
    a1, a3 = sigmoid

    def share(x: Tensor, y: Tensor, site: str) -> Floats:
        signed = design(x) * (2 * y.double().numpy() - 1)[:, None]
        margin = signed @ point
        return np.asarray(signed * (0.5 - a1 * margin - a3 * margin**3)[:, None])

    return share


def of_others(rows: Mapping[str, Rows], own: str, shares: list[Share]) -> tuple[ObservedSum, ...]:
    """The exact sums over all patients but the insider's own, one per share (round or step)."""
    others = tuple(site for site in sorted(rows) if site != own)
    return tuple(
        ObservedSum(
            others, np.sum([share(rows[site].x, rows[site].y, site).sum(0) for site in others], axis=0), share, 0.0
        )
        for share in shares
    )


def as_update(seen: ObservedSum, numbers: int) -> Mapping[str, Params]:
    """The last ``numbers`` of a sum, ``sum_i c_i (1, x_i)``, as one unit's gradient: of one patient it tells ``x``."""
    last = torch.from_numpy(seen.observed[-numbers:])
    return {OTHERS: {"layer0.weight": last[1:][None], "layer0.bias": last[:1]}}
