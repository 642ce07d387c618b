"""Pairs of columns: whether they go together in the synthetic table as they do in the real one.

The measures are those of sdmetrics' pair trends (a test holds them against sdmetrics): half the difference of
Pearson's r for two numbers, total variation of the joint table otherwise. They are computed from matrix products for
all pairs at once, which makes twenty halvings cheap. Two things differ: r is taken on the contract's
scale (logarithmic where the column is skewed), and missing values count: as a level in joint tables, and by a
correlation of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.distances import Draws, assembled
from pettoolkit.evaluation.quality.figures import PairQuality
from pettoolkit.evaluation.quality.tables import Ints, used_columns
from pettoolkit.records import NotMeasured
from pettoolkit.synthesis.rows import to_unit

Floats = npt.NDArray[np.float64]

BINS = 10
"""Bins of a number in a joint table: deciles of the real values."""

LEAST_TOGETHER = 20
"""Real rows with both values below which two columns have no correlation worth comparing."""

NO_TREND = "undefined: a real column is constant, or too few real rows have both values"
NO_MISSING = "undefined: a real column is always or never missing"


@dataclass(frozen=True)
class Prepared:
    """One table for counting pairs.

    Attributes
    ----------
    unit
        Number columns on the contract's scale in [0, 1], NaN where missing, shape (n, numbers).
    onehot
        Indicators of all columns' levels or bins, each column's missing indicator last, float32 (n, cells).
    missing
        Missing marks as 0/1, shape (n, columns).
    """

    unit: Floats
    onehot: npt.NDArray[np.float32]
    missing: Floats


@dataclass(frozen=True)
class Summary:
    """Of some rows: correlations of numbers, joint counts of cells, correlations of missingness."""

    rows: int
    r: Floats
    together: Floats
    joint: Floats
    missing_r: Floats


def pairs(real: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract, draws: Draws) -> tuple[PairQuality, ...]:
    """Compare every pair of columns, the outcome included; both tables as :func:`.tables.checked` gives them."""
    used = used_columns(contract)
    layout = _Layout.of(used, real, synthetic)
    prepared = (layout.prepare(real), layout.prepare(synthetic))
    floor, value, floor_missing, value_missing = [], [], [], []
    for (first, second), pick in zip(draws.halves, draws.picks, strict=True):
        half, other, made = (
            layout.summary(table, index)
            for table, index in ((prepared[0], first), (prepared[0], second), (prepared[1], pick))
        )
        floor.append(layout.trend_distances(half, other))
        value.append(layout.trend_distances(half, made))
        floor_missing.append(layout.missing_distances(half, other))
        value_missing.append(layout.missing_distances(half, made))
    whole = [layout.summary(table, None) for table in prepared]
    trends = assembled(np.stack(value), np.stack(floor), layout.trend_distances(whole[0], whole[1]), NO_TREND)
    gaps = assembled(
        np.stack(value_missing), np.stack(floor_missing), layout.missing_distances(whole[0], whole[1]), NO_MISSING
    )
    out = []
    for i, (a, b) in enumerate(combinations(range(len(used)), 2)):
        numbers = used[a].kind == used[b].kind == "number"
        at = (layout.number[a], layout.number[b])
        out.append(
            PairQuality(
                first=used[a].name,
                second=used[b].name,
                measure="correlation" if numbers else "contingency",
                trend=trends[i],
                real=_known(whole[0].r[at]) if numbers else NotMeasured("not two numbers"),
                synthetic=_known(whole[1].r[at]) if numbers else NotMeasured("not two numbers"),
                missing_together=gaps[i],
            )
        )
    return tuple(out)


def _known(value: float) -> float | NotMeasured:
    return NotMeasured(NO_TREND) if np.isnan(value) else float(value)


def correlations(x: Floats) -> tuple[Floats, Floats]:
    """Pearson's r of each pair of columns over the rows that have both, and how many there are.

    ``x`` has shape (n, d) with NaN where missing; r is NaN where one of the two is constant there.
    """
    seen = (~np.isnan(x)).astype(np.float64)
    z = np.where(seen > 0, x - 0.5, 0.0)  # centred within [0, 1], against cancellation
    n = seen.T @ seen
    total, squares, products = z.T @ seen, (z * z).T @ seen, z.T @ z
    with np.errstate(invalid="ignore", divide="ignore"):
        covariance = products - total * total.T / n
        spread = squares - total**2 / n
        spread = np.where(spread > 1e-9 * n, spread, np.nan)
        r = covariance / np.sqrt(spread * spread.T)
    return np.clip(r, -1.0, 1.0), n


@dataclass(frozen=True)
class _Layout:
    """Where each column's numbers stand in the matrices."""

    columns: tuple[Column, ...]
    number: tuple[int, ...]  # position among the numbers, -1 for others
    edges: tuple[Floats, ...]  # of numbers' bins
    levels: tuple[tuple[object, ...], ...]  # of the others, from both tables
    cell: Ints  # column of each cell

    @classmethod
    def of(cls, used: Sequence[Column], real: pd.DataFrame, synthetic: pd.DataFrame) -> _Layout:
        number: list[int] = []
        edges: list[Floats] = []
        levels: list[tuple[object, ...]] = []
        cells: list[int] = []
        for i, column in enumerate(used):
            if column.kind == "number":
                number.append(len(edges))
                edges.append(_deciles(real[column.name].to_numpy(dtype=np.float64)))
                levels.append(())
                cells += [i] * (len(edges[-1]) + 2)
            else:
                number.append(-1)
                both = pd.concat([real[column.name], synthetic[column.name]]).dropna()
                levels.append(tuple(sorted(both.unique())))
                cells += [i] * (len(levels[-1]) + 1)
        return cls(tuple(used), tuple(number), tuple(edges), tuple(levels), np.array(cells, dtype=np.int64))

    def prepare(self, frame: pd.DataFrame) -> Prepared:
        n = len(frame)
        unit = np.full((n, len(self.edges)), np.nan)
        onehot = np.zeros((n, len(self.cell)), dtype=np.float32)
        missing = np.zeros((n, len(self.columns)))
        for i, column in enumerate(self.columns):
            absent = frame[column.name].isna().to_numpy()
            if column.kind == "number":
                values = frame[column.name].to_numpy(dtype=np.float64)
                unit[:, self.number[i]] = np.where(absent, np.nan, to_unit(np.nan_to_num(values), column))
                code = np.searchsorted(self.edges[self.number[i]], values, side="left")
            else:
                code = pd.Categorical(frame[column.name], categories=list(self.levels[i])).codes.astype(np.int64)
            cells = np.flatnonzero(self.cell == i)
            onehot[np.arange(n), cells[np.where(absent, len(cells) - 1, code)]] = 1.0
            missing[:, i] = absent
        return Prepared(unit, onehot, missing)

    def summary(self, table: Prepared, index: Ints | None) -> Summary:
        unit, onehot, missing = table.unit, table.onehot, table.missing
        if index is not None:
            unit, onehot, missing = unit[index], onehot[index], missing[index]
        r, together = correlations(unit)
        # Whole numbers below 2**24 are exact in float32, in whatever order they are added.
        joint = (onehot[:, self._discrete].T @ onehot).astype(np.float64)
        return Summary(len(unit), r, together, joint, correlations(missing)[0])

    @property
    def _discrete(self) -> Ints:
        """Cells of the columns that are not numbers: each joint table that is needed has one of them."""
        return np.flatnonzero(np.array(self.number)[self.cell] < 0)

    def trend_distances(self, real: Summary, other: Summary) -> Floats:
        """Distances of all pairs, shape (pairs,), NaN where the real rows show no trend to compare with.

        A trend that the other rows can't show (a constant column, no values together) counts as r = 0.
        """
        half_r = np.abs(real.r - np.nan_to_num(other.r)) / 2
        half_r[real.together < LEAST_TOGETHER] = np.nan
        moved = np.abs(real.joint / real.rows - other.joint / other.rows) / 2
        by_column = np.add.reduceat(moved, self._starts(self.cell), axis=1)
        if len(moved):
            by_column = np.add.reduceat(by_column, self._starts(self.cell[self._discrete]), axis=0)
        discrete = [i for i, position in enumerate(self.number) if position < 0]
        row = {column: k for k, column in enumerate(discrete)}
        out = []
        for a, b in combinations(range(len(self.columns)), 2):
            if a in row:
                out.append(by_column[row[a], b])
            elif b in row:
                out.append(by_column[row[b], a])
            else:
                out.append(half_r[self.number[a], self.number[b]])
        return np.array(out)

    def missing_distances(self, real: Summary, other: Summary) -> Floats:
        """Half the differences of the correlation of being missing, shape (pairs,)."""
        gap = np.abs(real.missing_r - np.nan_to_num(other.missing_r)) / 2
        return np.array([gap[a, b] for a, b in combinations(range(len(self.columns)), 2)])

    @staticmethod
    def _starts(cells: Ints) -> Ints:
        return np.flatnonzero(np.r_[True, cells[1:] != cells[:-1]])


def _deciles(values: Floats) -> Floats:
    there = values[~np.isnan(values)]
    if not len(there):
        return np.zeros(0)
    return np.asarray(np.unique(np.quantile(there, np.arange(1, BINS) / BINS)))
