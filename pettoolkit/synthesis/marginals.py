"""Class-conditional marginals over public cells, with or without differential privacy.

With DP the outcome classes are counted and every column gets one histogram per class. Where patients are many and the
budget is large, both public (:data:`PAIRS_FROM`), pairs of columns are chosen from noisy coarse tables and counted, and
columns hang together by them; otherwise they are drawn independently within a class. Without DP the columns hang
together by a tree of pair tables (:mod:`pettoolkit.synthesis.tree`).

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

3. *coarse tables of all pairs* (only with pairs): every pair's table over a few groups of cells, groups chosen from
   noisy histograms. A patient adds 1 to one cell of each of the d (d - 1) / 2 tables: sensitivity sqrt(d (d - 1) / 2).
4. *tables of chosen pairs*: k tables, k at most d - 1 and decided by noisy answers. Each has sensitivity 1 and gets
   the k-th part of the share of rho, so that together they spend the share whatever k is.

Costs of 1, of all columns of 2, of 3 and of 4 add up (zCDP composes adaptively). Noisy counts are rounded to whole
numbers, projected on the simplex, shrunk and sampled: post-processing, which costs nothing; rounding
also removes the low-order bits by which floating-point Gaussian noise can be told apart (Mironov 2012).
For replacing one patient by another, the sensitivity of each query is sqrt(2).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput, Refused
from pettoolkit.synthesis.cells import Cells, cells_of
from pettoolkit.synthesis.conversation import COUNTS, SCREENING, TABLES, Fitted, answered, conversation
from pettoolkit.synthesis.noisy import CLASS_SHARE, DP_BINS
from pettoolkit.synthesis.protocol import DpBudget, GuaranteeEvent
from pettoolkit.synthesis.rows import Floats, Ints, allocate, assemble, class_values, classes
from pettoolkit.synthesis.tree import Tree, grow, independent

BINS, FEW_BINS, FEW = 16, 8, 1000
"""Without DP. With 500 patients 8 bins gave other hospitals' models .01 AUROC more than 16 (PhysioNet data)."""

SMOOTHING = 100.0
"""Without DP; 30 to 1000 differ by less than .005 AUROC on the PhysioNet data."""

PAIR_SHARES, NO_PAIRS = (0.1, 0.15), (0.0, 0.0)
"""With pairs: shares of the columns' rho for choosing pairs and for their tables. .4 for the tables costs .002 AUROC on
the PhysioNet data at epsilon 3 and .01 on the simulated hospitals, where these were chosen."""

PAIRS_FROM = 2500.0
"""Patients times mu (``sqrt(2 rho)``) from which pairs are asked for under DP. On the PhysioNet data (ten splits) pairs
lose .017 AUROC at 770 and gain .008 at 2,050 with six hospitals, lose .019 at 2,430 and win .013 at 12,300 with one; on
the simulated hospitals they lose .012 at 750 and gain .010 at 2,090."""


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

    @classmethod
    def of(cls, fitted: Fitted, contract: Contract) -> Marginals:
        """Make the generator of what a conversation came to, wherever it was held."""
        made = cls()
        made._contract, made._cells = contract, cells_of(contract, DP_BINS)
        made._shares, made._trees = fitted.shares, fitted.trees
        return made

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
        """Class counts, one histogram per feature column, and pairs if they are worth it; rho adds up to the budget."""
        if dp is None:
            return ()
        names = [c.name for c in contract.feature_columns]
        shares = PAIR_SHARES if self._plans_pairs(len(names), dp) else NO_PAIRS
        classes_share = CLASS_SHARE if names else 1.0
        events = [GuaranteeEvent.gaussian(COUNTS, dp.rho * classes_share)]
        rest = dp.rho * (1 - classes_share)
        each = rest * (1 - sum(shares)) / max(len(names), 1)
        events += [GuaranteeEvent.gaussian(f"histogram of {name} by class", each) for name in names]
        if shares != NO_PAIRS:
            couples = len(names) * (len(names) - 1) // 2
            events.append(GuaranteeEvent.gaussian(SCREENING, rest * shares[0], math.sqrt(couples)))
            events.append(GuaranteeEvent.gaussian(TABLES, rest * shares[1]))
        return tuple(events)

    def _plans_pairs(self, columns: int, dp: DpBudget) -> bool:
        """Whether pair tables are worth their share: decided by public numbers alone."""
        if not self._pairs or dp.patients is None or columns < 2:
            return False
        return dp.patients * math.sqrt(2 * dp.rho) >= PAIRS_FROM

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
        codes = codes_of(self._cells, rows)
        sizes = [len(c) for c in self._cells]
        n_classes = len(class_values(contract))
        self._shares = np.bincount(label, minlength=n_classes) / len(label)
        if self._pairs and len(sizes) > 1:
            self._trees = grow(codes, label, sizes, self._smoothing)
        else:
            self._trees = {
                int(y): independent([np.bincount(codes[label == y, j], minlength=k) for j, k in enumerate(sizes)])
                for y in np.unique(label)
            }

    def _fit_noisy(self, rows: pd.DataFrame, label: Ints, contract: Contract, dp: DpBudget) -> None:
        self._cells = cells_of(contract, DP_BINS)
        codes = codes_of(self._cells, rows)
        talk = conversation(self._cells, len(class_values(contract)), len(rows), self._events)
        fitted = answered(talk, codes, label, dp.noise)
        self._shares, self._trees = fitted.shares, fitted.trees


def codes_of(cells: tuple[Cells, ...], rows: pd.DataFrame) -> Ints:
    """Find the cells of all columns, shape (n, columns)."""
    if not cells:
        return np.zeros((len(rows), 0), dtype=np.int64)
    return np.column_stack([c.encode(rows) for c in cells])
