"""Public cells: every column cut into cells that depend on the contract alone, never on a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.synthesis.rows import Floats, Ints, bounds, from_unit, number, to_unit


@dataclass(frozen=True)
class Cells:
    """Cells of one column: equal bins on the contract's scale, or one per level; the last is "missing" if it may be.

    Numbers are cut into ``bins`` equal parts of their public range (on the log scale where the column
    has one), whole numbers into at most one bin each.
    """

    column: Column
    bins: int

    @classmethod
    def of(cls, column: Column, bins: int) -> Cells:
        """Cut a column into cells, a number into at most ``bins``."""
        if column.kind == "binary":
            return cls(column, 2)
        if column.kind == "category":
            return cls(column, len(column.levels))
        if column.integer:
            low, high = bounds(column)
            bins = min(bins, int(high - low) + 1)
        return cls(column, bins)

    @property
    def can_miss(self) -> bool:
        """Whether there is a cell for "missing" (the last)."""
        return self.column.missing != "never"

    @property
    def ordered(self) -> bool:
        """Whether neighbouring cells hold neighbouring values."""
        return self.column.kind == "number"

    def __len__(self) -> int:
        return self.bins + int(self.can_miss)

    def encode(self, rows: pd.DataFrame) -> Ints:
        """Find the cell of each row, shape (n,): exactly one, whatever the value is.

        What the contract does not foresee (a level not listed, a value missing where it never may be)
        counts as missing, or falls into the middle cell if there is no such cell: a table that breaks
        the contract must not make a query fail or count a patient twice.
        """
        unknown = self.bins if self.can_miss else self.bins // 2
        codes = np.full(len(rows), unknown, dtype=np.int64)
        if self.column.kind == "category":
            text = rows[self.column.name].astype("object")
            for i, level in enumerate(self.column.levels):
                codes[(text == level).to_numpy(dtype=bool)] = i
            return codes
        values = number(rows, self.column.name)
        if self.column.kind == "binary":
            codes[values == 0] = 0
            codes[values == 1] = 1
            return codes
        known = ~np.isnan(values)
        unit = to_unit(values[known], self.column)
        codes[known] = np.minimum((unit * self.bins).astype(np.int64), self.bins - 1)
        return codes

    def decode(self, codes: Ints, rng: np.random.Generator) -> npt.NDArray[np.generic]:
        """Draw a value for each cell in natural units, uniform within a bin on the contract's scale."""
        missing = codes == self.bins
        if self.column.kind == "category":
            out = np.array([*self.column.levels, None], dtype=object)[codes]
            return np.asarray(out)
        if self.column.kind == "binary":
            return np.where(missing, np.nan, codes.astype(np.float64))
        values: Floats = from_unit((codes + rng.random(len(codes))) / self.bins, self.column)
        return np.where(missing, np.nan, values)


def cells_of(contract: Contract, bins: int) -> tuple[Cells, ...]:
    """Cut all feature columns into cells, in contract order."""
    return tuple(Cells.of(column, bins) for column in contract.feature_columns)
