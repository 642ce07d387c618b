"""Checked tables and their numeric forms: codes for counting, scaled values for correlations, features for models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.features import encode
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.rows import to_unit

Array = npt.NDArray[Any]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Task = Literal["binary", "classes", "number"]

LEAST_REAL, LEAST_SYNTHETIC = 40, 20
"""Rows below which a distance between halves says nothing."""


def task_of(contract: Contract) -> Task:
    """Whether the outcome is 0/1, one of several classes, or a number."""
    outcome = contract.outcome
    if outcome.kind == "number":
        return "number"
    return "binary" if outcome.kind == "binary" or len(outcome.levels) == 2 else "classes"


def classes_of(contract: Contract) -> tuple[str, ...]:
    """Give the public classes of the outcome as text; of two, the second is the positive one."""
    outcome = contract.outcome
    if outcome.kind == "number":
        return ()
    return ("0", "1") if outcome.kind == "binary" else tuple(outcome.levels)


def used_columns(contract: Contract) -> tuple[Column, ...]:
    """List the columns that are declared: the features in contract order, then the outcome."""
    return (*contract.feature_columns, contract.outcome)


def checked(rows: pd.DataFrame, contract: Contract, where: str, least: int) -> pd.DataFrame:
    """Bring a table into the one form that all figures read; values are never repaired.

    Parameters
    ----------
    rows
        At least the contract's features and its outcome; others are left aside.
    where
        Names the table in messages.
    least
        Fewest rows that are accepted.

    Returns
    -------
    DataFrame
        Numbers and 0/1 columns as float64 (NaN: missing), categories as text (None: missing).

    Raises
    ------
    BadInput
        With all findings: absent columns, text where numbers belong, infinite numbers, too few rows.
    """
    lines, values = [], {}
    for column in used_columns(contract):
        if column.name not in rows.columns:
            lines.append(f"{where}: {column.name}: the column is missing")
            continue
        raw = rows[column.name]
        if isinstance(raw, pd.DataFrame):
            lines.append(f"{where}: {column.name}: the column is there twice")
        elif column.kind == "category":
            values[column.name] = _texts(raw)
        else:
            try:
                numbers = raw.to_numpy(dtype=np.float64, na_value=np.nan)
            except (TypeError, ValueError):
                lines.append(f"{where}: {column.name}: must be numbers (the column is {raw.dtype})")
                continue
            if np.isinf(numbers).any():
                lines.append(f"{where}: {column.name}: must be finite numbers (some are infinite)")
            values[column.name] = numbers
    if len(rows) < least:
        lines.append(f"{where}: has {len(rows)} rows; a declaration needs at least {least}")
    if lines:
        raise BadInput(lines)
    return pd.DataFrame(values)


def _texts(raw: pd.Series[Any]) -> npt.NDArray[np.object_]:
    def text(value: object) -> str | None:
        if pd.isna(value):  # type: ignore[call-overload]
            return None
        if isinstance(value, float) and value.is_integer():
            return str(int(value))
        return str(value)

    return np.array([text(value) for value in raw], dtype=object)


def labels(frame: pd.DataFrame, contract: Contract) -> Array:
    """Give the outcome of each row: index into :func:`classes_of` (-1: missing or unknown), or the number itself."""
    values = frame[contract.outcome.name]
    if contract.outcome.kind == "number":
        return values.to_numpy(dtype=np.float64)
    if contract.outcome.kind == "binary":
        numbers = values.to_numpy(dtype=np.float64)
        return np.where(np.isin(numbers, (0.0, 1.0)), np.nan_to_num(numbers), -1).astype(np.int64)
    position = {level: i for i, level in enumerate(contract.outcome.levels)}
    return np.array([position.get(v, -1) for v in values], dtype=np.int64)


def labelled(y: Array) -> npt.NDArray[np.bool_]:
    """Which rows have a usable outcome."""
    return np.asarray(~np.isnan(y) if y.dtype.kind == "f" else y >= 0)


def encode_outcome(y: Array, contract: Contract) -> npt.NDArray[np.float32]:
    """Encode outcomes as further columns for a classifier that tells real rows from synthetic ones, shape (n, k)."""
    if contract.outcome.kind == "number":
        known = labelled(y)
        middle = float(y[known].mean()) if known.any() else 0.0
        unit = 2 * to_unit(np.where(known, y, middle), contract.outcome) - 1
        return np.asarray(unit[:, None], dtype=np.float32)
    return np.asarray(y[:, None] == np.arange(len(classes_of(contract))), dtype=np.float32)


@dataclass(frozen=True)
class Table:
    """A checked table in the forms that models read.

    Attributes
    ----------
    frame
        See :func:`checked`.
    x
        Features, float32 of shape (n, d) in [-1, 1] (:func:`pettoolkit.cohort.features.encode`).
    y
        See :func:`labels`, shape (n,).
    """

    frame: pd.DataFrame
    x: npt.NDArray[np.float32]
    y: Array

    @classmethod
    def of(cls, frame: pd.DataFrame, contract: Contract) -> Table:
        """Encode a checked table."""
        return cls(frame, encode(frame, contract), labels(frame, contract))

    def take(self, index: Ints) -> Table:
        """Some of the rows."""
        return Table(self.frame.iloc[index].reset_index(drop=True), self.x[index], self.y[index])

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Coded:
    """One column of several tables in whole numbers, so that a distribution is a count.

    ``codes`` holds for each table the position of each value among all values of all tables (-1: missing), so that
    distances are exact; ``size`` is how many different values there are.
    """

    ordered: bool
    size: int
    codes: tuple[Ints, ...]

    @classmethod
    def of(cls, tables: Sequence[pd.DataFrame], column: Column) -> Coded:
        """Code a column; numbers are ordered, levels are not."""
        parts = [table[column.name] for table in tables]
        codes, unique = pd.factorize(pd.concat(parts, ignore_index=True), sort=True, use_na_sentinel=True)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        split = tuple(np.asarray(part, dtype=np.int64) for part in np.split(codes, ends))
        return cls(column.kind == "number", len(unique), split)

    def counts(self, table: int, index: Ints | None = None) -> Ints:
        """Rows with each value, shape (size,), and in the last place the missing ones."""
        codes = self.codes[table] if index is None else self.codes[table][index]
        return np.roll(np.bincount(codes + 1, minlength=self.size + 1), -1)


def halvings(real_rows: int, size: int, times: int, rng: np.random.Generator) -> list[tuple[Ints, Ints]]:
    """Draw ``times`` pairs of disjoint random sets of ``size`` real rows each."""
    if 2 * size > real_rows:
        raise ValueError(f"two halves of {size} rows do not fit into {real_rows}")
    orders = [rng.permutation(real_rows) for _ in range(times)]
    return [(order[:size], order[size : 2 * size]) for order in orders]


def samples(rows: int, size: int, times: int, rng: np.random.Generator) -> list[Ints]:
    """Draw ``times`` random sets of ``size`` rows without replacement."""
    return [rng.permutation(rows)[:size] for _ in range(times)]
