"""Class-conditional marginals over public cells, with or without differential privacy.

With DP the outcome classes are counted and every column gets one histogram per class; columns are then
drawn independently within a class. Without DP the columns hang together by a tree of pair tables
(:mod:`pettoolkit.synthesis.tree`).

Proof of the guarantee
----------------------
Neighbours are two tables of which one has one patient (row) more; the number of patients is public and
taken as given. The queries are:

1. *class counts*: the vector of patients per outcome class. A patient adds 1 to one entry, so its L2
   sensitivity is 1. Gaussian noise of SD sigma gives rho = 1 / (2 sigma^2) of zCDP (Bun and Steinke
   2016, Proposition 1.6).
2. *one histogram per column*, over (class, cell). A patient has one class and, in each column, falls into
   exactly one cell (:meth:`Cells.encode` gives every value one), so the sensitivity is 1 again. It is
   answered class by class: the reference class (the most frequent one according to the noisy counts of
   1) over fine cells, the others over groups of cells which are chosen by looking at the reference
   class's *noisy* histogram and so hold about equally many patients. Were the classes answered
   at once, this would be one Gaussian mechanism; answered one after the other it still costs rho
   once and not twice: the patient added or removed has one class. If it is the reference class,
   only that histogram changes, and given its noisy answer the groups and the other answers have
   the same distribution. If it is another class, the reference histogram and hence the groups have
   the same distribution, and only that class's histogram changes, by 1 in one group. Either way the Renyi
   divergence is at most that of one Gaussian mechanism with sensitivity 1 (parallel composition
   over a public partition of patients; adaptive because the partition does not depend on the answers).

Costs of 1 and of all columns of 2 add up (zCDP composes adaptively). Noisy counts are rounded to whole
numbers, projected on the simplex, shrunk and sampled: post-processing, which costs nothing; rounding
also removes the low-order bits by which floating-point Gaussian noise can be told apart (Mironov 2012).
For replacing one patient by another, the sensitivity of each query is sqrt(2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.cells import Cells, cells_of
from pettoolkit.synthesis.protocol import DpBudget, GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, Ints, allocate, assemble, class_values, classes
from pettoolkit.synthesis.tree import Tree, grow, independent

BINS, FEW_BINS, FEW = 16, 8, 1000
"""Without DP. With 500 patients 8 bins gave other hospitals' models .01 AUROC more than 16 (PhysioNet data)."""

SMOOTHING = 100.0
"""Without DP; 30 to 1000 differ by less than .005 AUROC on the PhysioNet data."""

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


class Marginals:
    """Generator of class-conditional marginals; see the module's text.

    Parameters
    ----------
    bins
        Equal-width bins of a number column without DP (with DP: :data:`DP_BINS`); None takes :data:`BINS`, or
        :data:`FEW_BINS` where the hospital has fewer than :data:`FEW` patients.
    smoothing
        Pseudo-patients of the hospital as a whole, fitted to the class's marginals, added to each row of a
        class's pair table (without DP): the fidelity dial. 0 copies pair tables exactly; infinity leaves plain
        marginals.
    pairs
        Whether columns hang together by a tree of pair tables without DP.
    """

    def __init__(self, bins: int | None = None, smoothing: float = SMOOTHING, pairs: bool = True) -> None:
        if bins is not None and not 2 <= bins <= 256:
            raise BadInput(f"generator marginals: bins must be between 2 and 256 (got {bins})")
        if not smoothing >= 0:
            raise BadInput(f"generator marginals: smoothing must be at least 0 (got {smoothing})")
        self._bins, self._smoothing, self._pairs = bins, smoothing, pairs
        self._events: tuple[GuaranteeEvent, ...] = ()
        self._notes: tuple[str, ...] = ()
        self._contract: Contract | None = None
        self._cells: tuple[Cells, ...] = ()
        self._shares: Floats = np.zeros(0)
        self._trees: dict[int, Tree] = {}

    @property
    def events(self) -> tuple[GuaranteeEvent, ...]:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        return self._events

    @property
    def notes(self) -> tuple[str, ...]:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        return self._notes

    @property
    def counts(self) -> Mapping[str, int]:
        """Nothing is ever corrected: cells lie within the bounds."""
        return {"clipped": 0}

    def plan(self, contract: Contract, dp: DpBudget | None) -> tuple[GuaranteeEvent, ...]:
        """Class counts first, then one histogram per feature column; rho adds up to the budget."""
        if dp is None:
            return ()
        names = [c.name for c in contract.feature_columns]
        share = CLASS_SHARE if names else 1.0
        counts = GuaranteeEvent.gaussian("class counts", dp.rho * share)
        each = dp.rho * (1 - share) / max(len(names), 1)
        return (counts, *(GuaranteeEvent.gaussian(f"histogram of {name} by class", each) for name in names))

    def fit(self, rows: pd.DataFrame, contract: Contract, *, seed: int, dp: DpBudget | None) -> None:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`; nothing but the noise is random."""
        if len(rows) == 0:
            raise Refused("generator marginals: this hospital has no training patient (leave the hospital out)")
        label = classes(rows, contract)
        self._contract, self._notes = contract, ()
        self._events = self.plan(contract, dp)
        if dp is None:
            self._fit_exact(rows, label, contract)
        else:
            self._fit_noisy(rows, label, contract, dp)

    def sample(self, n: int, *, seed: int) -> pd.DataFrame:
        """See :class:`~pettoolkit.synthesis.protocol.Generator`."""
        if self._contract is None:
            raise Refused("generator marginals: sample was asked for before fit")
        rng = np.random.default_rng(seed)
        per_class = allocate(n, self._shares)
        label = np.repeat(np.arange(len(per_class)), per_class)
        codes = np.vstack(
            [self._trees[y].sample(int(k), rng) for y, k in enumerate(per_class) if k]
            or [np.zeros((0, len(self._cells)), np.int64)]
        )
        order = rng.permutation(n)
        values = {c.column.name: c.decode(codes[order, j], rng) for j, c in enumerate(self._cells)}
        return assemble(values, label[order], self._contract)

    def _fit_exact(self, rows: pd.DataFrame, label: Ints, contract: Contract) -> None:
        self._cells = cells_of(contract, self._bins or (BINS if len(rows) >= FEW else FEW_BINS))
        codes = _codes(self._cells, rows)
        sizes = [len(c) for c in self._cells]
        n_classes = len(class_values(contract))
        self._shares = np.bincount(label, minlength=n_classes) / len(label)
        if self._pairs:
            self._trees = grow(codes, label, sizes, self._smoothing)
        else:
            self._trees = {
                int(y): independent([np.bincount(codes[label == y, j], minlength=k) for j, k in enumerate(sizes)])
                for y in np.unique(label)
            }

    def _fit_noisy(self, rows: pd.DataFrame, label: Ints, contract: Contract, dp: DpBudget) -> None:
        self._cells = cells_of(contract, DP_BINS)
        codes = _codes(self._cells, rows)
        count_event, *column_events = self._events
        n_classes = len(class_values(contract))
        counts = Query(count_event, np.bincount(label, minlength=n_classes).astype(np.float64)).answer(dp.noise)
        sizes = on_simplex(counts, float(len(rows)))
        reference = int(np.argmax(sizes))
        self._shares = sizes / sizes.sum()
        others = [y for y in range(n_classes) if y != reference]
        shapes: dict[int, list[Floats]] = {y: [] for y in range(n_classes)}
        for j, (cells, event) in enumerate(zip(self._cells, column_events, strict=True)):
            answer = Query(event, histogram(codes[label == reference, j], len(cells))).answer(dp.noise)
            base = on_simplex(answer, max(sizes[reference], 1.0))
            base /= base.sum()
            shapes[reference].append(base)
            for y in others:
                groups = group_cells(cells, base, group_count(sizes[y], event.sigma))
                n_groups = int(groups.max()) + 1
                counted = Query(event, histogram(groups[codes[label == y, j]], n_groups)).answer(dp.noise)
                shapes[y].append(shape_of(counted, groups, base, float(sizes[y]), event.sigma))
        self._trees = {y: independent(marginals) for y, marginals in shapes.items()}


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


def _codes(cells: tuple[Cells, ...], rows: pd.DataFrame) -> Ints:
    if not cells:
        return np.zeros((len(rows), 0), dtype=np.int64)
    return np.column_stack([c.encode(rows) for c in cells])
