"""From landmark rows in natural units to the numbers a model sees; fits nothing on data.

Every arm uses this one encoding, on real and on synthetic rows alike: clip to the contract's public
bounds, log where the column is skewed, scale to [-1, 1], a missing value becomes 0 and sets its
indicator to 1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract

Matrix = npt.NDArray[np.float32]


def feature_names(contract: Contract) -> tuple[str, ...]:
    """Names of the encoded columns: all values first, then all indicators."""
    values: list[str] = []
    for column in contract.feature_columns:
        values += [f"{column.name}={v}" for v in column.levels] if column.kind == "category" else [column.name]
    indicators = [f"{c.name}?" for c in contract.feature_columns if c.missing == "indicator"]
    return tuple(values + indicators)


def encode(rows: pd.DataFrame, contract: Contract) -> Matrix:
    """Encode rows.

    Parameters
    ----------
    rows
        One row per patient in natural units, NaN where missing; must have the contract's feature columns.
    contract
        Row contract, already narrowed to a feature set (:meth:`Contract.select`).

    Returns
    -------
    ndarray of float32, shape (n, d)
        In [-1, 1]; columns named by :func:`feature_names`.
    """
    values: list[npt.NDArray[np.float64]] = []
    indicators: list[npt.NDArray[np.float64]] = []
    for column in contract.feature_columns:
        if column.kind == "category":
            text = rows[column.name].astype("object")
            missing = text.isna().to_numpy()
            values += [(text == level).to_numpy(dtype=np.float64) for level in column.levels]
        else:
            raw = rows[column.name].to_numpy(dtype=np.float64, na_value=np.nan)
            missing = np.isnan(raw)
            values.append(np.where(missing, 0.0, _scale(np.where(missing, _middle(column), raw), column)))
        if column.missing == "indicator":
            indicators.append(missing.astype(np.float64))
    if not values:
        return np.zeros((len(rows), 0), dtype=np.float32)
    return np.column_stack(values + indicators).astype(np.float32)


def outcome(rows: pd.DataFrame, contract: Contract) -> npt.NDArray[np.float32]:
    """The binary outcome as float32 of shape (n,)."""
    return rows[contract.outcome.name].to_numpy(dtype=np.float32)


def _bounds(column: Column) -> tuple[float, float]:
    if column.kind == "binary":
        return 0.0, 1.0
    assert column.low is not None, "the contract's validator saw to it"
    assert column.high is not None
    return column.low, column.high


def _middle(column: Column) -> float:
    low, high = _bounds(column)
    return (low + high) / 2


def _scale(raw: npt.NDArray[np.float64], column: Column) -> npt.NDArray[np.float64]:
    low, high = _bounds(column)
    values = np.clip(raw, low, high)
    if column.integer:
        values = np.clip(np.rint(values), low, high)
    ends = np.array([low, high])
    if column.log:
        signed = low <= 0
        values, ends = _log(values, signed=signed), _log(ends, signed=signed)
    return np.asarray(2.0 * (values - ends[0]) / (ends[1] - ends[0]) - 1.0)


def _log(value: npt.NDArray[np.float64], *, signed: bool) -> npt.NDArray[np.float64]:
    if signed:
        return np.asarray(np.sign(value) * np.log1p(np.abs(value)))
    return np.asarray(np.log(value))
