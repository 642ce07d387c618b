"""What all generators share: the public scale of a column, the form of finished rows, and the rules they may break."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.errors import BadInput

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def to_unit(values: Floats, column: Column) -> Floats:
    """Scale a number column to [0, 1] between its public bounds, by logarithm where it has one; NaN stays NaN."""
    low, high = bounds(column)
    clipped = np.clip(values, low, high)
    if column.integer:
        clipped = np.clip(np.rint(clipped), low, high)
    first, last = _stretch(np.array([low, high]), column)
    return np.asarray((_stretch(clipped, column) - first) / (last - first))


def from_unit(unit: Floats, column: Column) -> Floats:
    """Invert :func:`to_unit`, within the bounds and rounded where the column is an integer."""
    low, high = bounds(column)
    first, last = _stretch(np.array([low, high]), column)
    values = _shrink(first + np.clip(unit, 0.0, 1.0) * (last - first), column)
    if column.integer:
        values = np.rint(values)
    return np.asarray(np.clip(values, low, high))


def _stretch(values: Floats, column: Column) -> Floats:
    """Go to the contract's scale: as it is, ``log x``, or the signed ``sign(x) log(1 + |x|)``."""
    if not column.log:
        return values
    if _signed(column):
        return np.asarray(np.sign(values) * np.log1p(np.abs(values)))
    return np.asarray(np.log(values))


def _shrink(scaled: Floats, column: Column) -> Floats:
    if not column.log:
        return scaled
    if _signed(column):
        return np.asarray(np.sign(scaled) * np.expm1(np.abs(scaled)))
    return np.asarray(np.exp(scaled))


def _signed(column: Column) -> bool:
    return bounds(column)[0] <= 0


def bounds(column: Column) -> tuple[float, float]:
    """Give the public bounds of a number column, whole numbers where it is an integer."""
    assert column.low is not None, column.name  # the contract's validator saw to it
    assert column.high is not None, column.name
    if column.integer:
        return float(np.ceil(column.low)), float(np.floor(column.high))
    return column.low, column.high


def number(rows: pd.DataFrame, name: str) -> Floats:
    """Read a column as float64 with NaN where missing."""
    return rows[name].to_numpy(dtype=np.float64, na_value=np.nan)


def class_values(contract: Contract) -> tuple[object, ...]:
    """List the outcome's public classes: 0 and 1, or the category's levels.

    Raises
    ------
    BadInput
        If the outcome is a number: class-conditional generators need classes.
    """
    outcome = contract.outcome
    if outcome.kind == "number":
        raise BadInput(f"column {outcome.name}: generators need an outcome of kind binary or category (got number)")
    return (0, 1) if outcome.kind == "binary" else tuple(outcome.levels)


def classes(rows: pd.DataFrame, contract: Contract) -> Ints:
    """Give the index into :func:`class_values` of each row, shape (n,).

    Raises
    ------
    BadInput
        If a column of the contract is absent, or an outcome is missing or not a public class.
    """
    wanted = [c.name for c in contract.feature_columns] + [contract.outcome.name]
    absent = [name for name in wanted if name not in rows.columns]
    if absent:
        raise BadInput(f"rows: columns of the contract are absent: {', '.join(absent)}")
    name = contract.outcome.name
    index = np.full(len(rows), -1, dtype=np.int64)
    for i, value in enumerate(class_values(contract)):
        index[(rows[name] == value).to_numpy(dtype=bool, na_value=False)] = i
    if (index < 0).any():
        raise BadInput(f"column {name}: an outcome is missing or no class of the contract (leave such patients out)")
    return index


def allocate(n: int, shares: Floats) -> Ints:
    """Divide ``n`` rows over classes in proportion to ``shares`` (largest remainders), shape of ``shares``."""
    exact = n * shares / shares.sum()
    out: Ints = np.floor(exact).astype(np.int64)
    out[np.argsort(out - exact, kind="stable")[: n - int(out.sum())]] += 1
    return out


def assemble(values: Mapping[str, npt.NDArray[np.generic]], label: Ints, contract: Contract) -> pd.DataFrame:
    """Put rows together in contract order with the outcome last; ``label`` indexes :func:`class_values`."""
    out: dict[str, object] = {c.name: values[c.name] for c in contract.feature_columns}
    kinds = class_values(contract)
    if contract.outcome.kind == "binary":
        out[contract.outcome.name] = label.astype(np.int8)
    else:
        out[contract.outcome.name] = np.array(kinds, dtype=object)[label]
    return pd.DataFrame(out)


PRESSURES = ("DBP", "MAP", "SBP")
"""Diastolic, mean and systolic pressure: a mean lies between the other two."""


def violations(rows: pd.DataFrame, contract: Contract) -> dict[str, int]:
    """Count what breaks the contract or physiology; nothing is repaired.

    Returns
    -------
    dict
        ``values out of bounds``, ``not a whole number``, ``unknown level``, ``missing where never`` (values),
        and ``MAP not between DBP and SBP``, ``DBP above SBP`` (rows with the values present; only where
        the contract has those columns). Real rows break the pressure rules too: read the figure
        beside theirs.
    """
    out = {"values out of bounds": 0, "not a whole number": 0, "unknown level": 0, "missing where never": 0}
    for column in contract.feature_columns:
        missing = rows[column.name].isna().to_numpy()
        if column.missing == "never":
            out["missing where never"] += int(missing.sum())
        if column.kind == "category":
            known = rows[column.name].isin(list(column.levels)).to_numpy()
            out["unknown level"] += int((~known & ~missing).sum())
            continue
        values = number(rows, column.name)[~missing]
        if column.kind == "binary":
            out["unknown level"] += int((~np.isin(values, (0.0, 1.0))).sum())
            continue
        low, high = bounds(column)
        out["values out of bounds"] += int(((values < low) | (values > high)).sum())
        if column.integer:
            out["not a whole number"] += int((values != np.rint(values)).sum())
    if {c.name for c in contract.feature_columns} >= set(PRESSURES):
        diastolic, mean, systolic = (number(rows, name) for name in PRESSURES)
        out["MAP not between DBP and SBP"] = int(((mean < diastolic) | (mean > systolic)).sum())
        out["DBP above SBP"] = int((diastolic > systolic).sum())
    return out
