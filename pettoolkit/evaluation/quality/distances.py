"""A distance between real and synthetic rows, beside the distance between two halves of the real rows.

Every distance here takes the same number of rows on each side, since its size under no difference depends on how
many rows are compared: KS and total variation between two samples of n rows of the same population shrink like
1 / sqrt(n).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.evaluation.quality.figures import Fidelity
from pettoolkit.evaluation.quality.tables import Ints, halvings, samples
from pettoolkit.records import NotMeasured

Floats = npt.NDArray[np.float64]

HIGH = 0.95
"""Quantile over halvings that a distance must exceed to count as beyond the noise floor."""


@dataclass(frozen=True)
class Draws:
    """Which rows are compared: random halvings of the real rows, and as many synthetic rows for each.

    Parameters
    ----------
    halves
        Pairs of disjoint index arrays into the real rows, each of ``size``.
    picks
        For each halving an index array of ``size`` into the synthetic rows.
    """

    halves: tuple[tuple[Ints, Ints], ...]
    picks: tuple[Ints, ...]

    @classmethod
    def of(cls, real_rows: int, synthetic_rows: int, size: int, times: int, seed: int) -> Draws:
        """Draw them; the halvings depend on the seed and the real rows alone, whatever they are compared with."""
        halves = halvings(real_rows, size, times, np.random.default_rng([seed, 1]))
        picks = samples(synthetic_rows, size, times, np.random.default_rng([seed, 2]))
        return cls(tuple(halves), tuple(picks))


Counted = Callable[[int, Ints | None], Any]
"""What a distance reads: of table 0 (real) or 1 (synthetic), from some of its rows or (None) from all of them."""


def fidelities(read: Counted, distance: Callable[[Any, Any], Floats], draws: Draws, why: str) -> list[Fidelity]:
    """Measure several distances at once, each with its floor.

    Parameters
    ----------
    read
        Summarises rows of a table.
    distance
        Distances between two summaries, shape (d,); NaN where one does not exist.
    why
        The reason given where a distance does not exist.

    Returns
    -------
    list of Fidelity
        One for each of the d distances.
    """
    floor, value = [], []
    for (first, second), pick in zip(draws.halves, draws.picks, strict=True):
        half = read(0, first)
        floor.append(distance(half, read(0, second)))
        value.append(distance(half, read(1, pick)))
    return assembled(np.stack(value), np.stack(floor), distance(read(0, None), read(1, None)), why)


def assembled(value: Floats, floor: Floats, all_rows: Floats, why: str) -> list[Fidelity]:
    """Put figures together from distances of each halving, (halvings, d), and of all rows, (d,)."""
    out = []
    for i in range(value.shape[1]):
        floors = floor[:, i][~np.isnan(floor[:, i])]
        values = value[:, i][~np.isnan(value[:, i])]
        none = NotMeasured(why)
        out.append(
            Fidelity(
                value=float(values.mean()) if len(values) else none,
                floor=float(floors.mean()) if len(floors) else none,
                floor_high=float(np.quantile(floors, HIGH)) if len(floors) else none,
                all_rows=none if np.isnan(all_rows[i]) else float(all_rows[i]),
            )
        )
    return out


def ks(first: Ints, second: Ints) -> float:
    """Kolmogorov-Smirnov distance of two columns from counts of the same ordered values; NaN if one has none.

    The largest difference of the two empirical distribution functions (Smirnov 1939), ties included: what
    ``scipy.stats.ks_2samp`` gives as its statistic.
    """
    if not first.sum() or not second.sum():
        return float("nan")
    return float(np.abs(np.cumsum(first) / first.sum() - np.cumsum(second) / second.sum()).max())


def total_variation(first: Ints, second: Ints) -> float:
    """Half the sum of the differences of shares, from counts of the same levels; NaN if one has none."""
    if not first.sum() or not second.sum():
        return float("nan")
    return float(np.abs(first / first.sum() - second / second.sum()).sum() / 2)
