"""The release filter: rows that repeat a patient, or come closer to one than patients are to each other, stay inside.

It reads real rows to decide, so it has no place under differential privacy, where what is removed would itself
tell about patients. It is no guarantee either: a row that it leaves may still say much about somebody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.synthesis.rows import Floats, number, to_unit

Mode = Literal["exact", "close"]

QUANTILE = 0.01
"""``close``: rows as near to a patient as the nearest 1 % of patients are to another patient."""

EXACT = 1e-9
"""Distances below this are none: the scale of the contract rounds off the last bits."""

_CHUNK = 512


@dataclass(frozen=True)
class Filtered:
    """What may leave, and how many rows were held back: repeats of a patient, and others that are too close.

    ``limit`` is the distance below which a row was too close (0 where only repeats are held back).
    """

    rows: pd.DataFrame
    exact: int
    close: int
    limit: float


def release_filter(made: pd.DataFrame, real: pd.DataFrame, contract: Contract, mode: Mode) -> Filtered:
    """Hold back rows that repeat a real one (``exact``) or are too close to one (``close``).

    The distance of two rows is the mean over feature columns of: the difference on the contract's scale, 0 to 1, for
    numbers; 0 or 1 for levels; 1 where one is missing and the other is not (Gower 1971). The limit for ``close`` is the
    quantile :data:`QUANTILE` of patients' distances to their nearest other patient; outcomes do not count.

    Parameters
    ----------
    made, real
        Synthetic rows, and the training rows that the generator saw.
    """
    a, b = _coordinates(made, contract), _coordinates(real, contract)
    nearest = nearest_distance(a, b)
    exact = nearest <= EXACT
    limit = 0.0
    if mode == "close" and len(real) > 1:
        limit = float(np.quantile(nearest_distance(b, b, others=True), QUANTILE))
    close = ~exact & (nearest <= limit)
    kept = made[~(exact | close)].reset_index(drop=True)
    return Filtered(kept, int(exact.sum()), int(close.sum()), limit)


def nearest_distance(a: Floats, b: Floats, *, others: bool = False) -> Floats:
    """Distance of each row of ``a`` to its nearest row of ``b``; ``others``: to one that is not row i itself."""
    from scipy.spatial.distance import cdist

    out = np.empty(len(a))
    for start in range(0, len(a), _CHUNK):
        block = cdist(a[start : start + _CHUNK], b, "cityblock")
        if others:
            index = np.arange(len(block))
            block[index, start + index] = np.inf
        out[start : start + _CHUNK] = block.min(axis=1)
    return out


def _coordinates(rows: pd.DataFrame, contract: Contract) -> Floats:
    """Rows as points whose L1 distance is the distance of :func:`release_filter`, shape (n, coordinates)."""
    features = contract.feature_columns
    parts: list[npt.NDArray[np.float64]] = []
    for column in features:
        if column.kind == "category":
            hot = [(rows[column.name] == level).to_numpy(dtype=np.float64) for level in column.levels]
            parts.append(np.column_stack([*hot, rows[column.name].isna().to_numpy(dtype=np.float64)]) / 2)
            continue
        values = number(rows, column.name)
        unit = to_unit(values, column) if column.kind == "number" else values
        missing = np.isnan(unit)
        # present (u, 1 - u, 0) / 2 and missing (0, 0, 1) / 2: |u - v| between present values, 1 from any to missing
        known = np.where(missing, 0.0, unit)
        parts.append(np.column_stack([known, np.where(missing, 0.0, 1 - known), missing]) / 2)
    return np.hstack(parts) / max(len(features), 1) if parts else np.zeros((len(rows), 0))
