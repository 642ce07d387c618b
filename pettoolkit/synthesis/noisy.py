"""Noisy counts of patients and what is made of them afterwards: projected, grouped, shrunk."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pettoolkit.synthesis.cells import Cells
from pettoolkit.synthesis.protocol import GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, Ints

CLASS_SHARE = 0.02
"""Share of rho for the class counts; the columns share the rest equally."""

# The next three were chosen on the PhysioNet data (three splits, epsilon 1, 3 and 10); 3 to 6 groups, 16 or 32
# bins and shares of 0 to 1 differ by less than .005 AUROC. One histogram of 16 cells for both classes
# costs .05 at epsilon 1 where groups cost .015.
DP_BINS = 16
"""Bins of the reference class under DP."""

MIN_GROUPS = 4
"""Fewest groups of cells, besides "missing", in which the rarer classes are counted under DP."""

SHRINKAGE = 0.5
"""Share of the noise's expected energy that is taken off a rare class's difference from the reference class."""


@dataclass(frozen=True)
class Query:
    """One exact answer on private rows and the noise it gets: ``values`` has L2 sensitivity ``event.sensitivity``."""

    event: GuaranteeEvent
    values: Floats

    def answer(self, noise: np.random.Generator) -> Floats:
        """Give the noisy whole counts."""
        return noisy(self.values, self.event.sigma, noise)


def noisy(values: Floats, sigma: float, noise: np.random.Generator) -> Floats:
    """Add Gaussian noise of SD ``sigma``, rounded to whole numbers."""
    return np.rint(values + noise.normal(0.0, sigma, size=values.shape))


def histogram(codes: Ints, size: int) -> Floats:
    """Count patients per cell, shape (size,)."""
    return np.bincount(codes, minlength=size).astype(np.float64)


def on_simplex(values: Floats, total: float) -> Floats:
    """Find the closest vector (least squares) with entries of at least 0 and the given sum.

    Duchi et al. 2008 (ICML), figure 1. Unlike clipping at 0 it does not turn noise into mass.
    """
    ordered = np.sort(values)[::-1]
    excess = np.cumsum(ordered) - total
    last = np.flatnonzero(ordered - excess / np.arange(1, len(values) + 1) > 0)[-1]
    return np.asarray(np.maximum(values - excess[last] / (last + 1), 0.0))


def group_count(size: float, sigma: float) -> int:
    """Choose into how many groups a class of (noisy) ``size`` is counted: more, the clearer it stands above the noise.

    With g groups a group holds size / g patients, so that noise is about g sigma / size of it; the square root
    keeps that below 1 / g.
    """
    return max(MIN_GROUPS, int(math.sqrt(size / sigma)))


def group_cells(cells: Cells, base: Floats, count: int) -> Ints:
    """Put cells into at most ``count`` groups with about equal shares of the (noisy) reference class.

    Levels and "missing" stay alone. Returns each cell's group, numbered from 0 without gaps.
    """
    if not cells.ordered or cells.bins <= count:
        return np.arange(len(cells), dtype=np.int64)
    present = base[: cells.bins]
    if present.sum() <= 0:
        present = np.ones(cells.bins)
    middle = (np.cumsum(present) - present / 2) / present.sum()
    group = np.minimum((middle * count).astype(np.int64), count - 1)
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    return np.append(group, group.max() + 1) if cells.can_miss else group


def shape_of(counted: Floats, groups: Ints, base: Floats, size: float, sigma: float) -> Floats:
    """Estimate a rarer class's share of each cell from its noisy group counts.

    The difference from the reference class's shape is shrunk by the energy that noise alone would have
    (James and Stein 1961, positive part, damped by :data:`SHRINKAGE`): hospitals with few
    such patients lean on the reference class. Within a group cells keep the reference's proportions.
    """
    size = max(size, 1.0)
    group_base = np.bincount(groups, weights=base, minlength=len(counted))
    difference = counted - size * group_base
    energy = float(difference @ difference)
    keep = max(0.0, 1.0 - SHRINKAGE * len(counted) * sigma**2 / energy) if energy > 0 else 0.0
    share = on_simplex(size * group_base + keep * difference, size) / size
    members = np.bincount(groups, minlength=len(counted))
    within = np.where(
        group_base[groups] > 0, base / np.maximum(group_base[groups], math.ulp(1.0)), 1.0 / members[groups]
    )
    shape = share[groups] * within
    return np.asarray(shape / shape.sum())
