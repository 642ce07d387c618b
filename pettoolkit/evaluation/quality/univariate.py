"""Each column by itself: its values (KS or total variation) and how often it is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.quality.distances import Draws, Floats, fidelities, ks, total_variation
from pettoolkit.evaluation.quality.figures import ColumnQuality, Fidelity, Histogram, Overall
from pettoolkit.evaluation.quality.tables import Coded, Ints, used_columns
from pettoolkit.records import NotMeasured

BINS = 20
"""Bins of a number column's histogram, between its public bounds."""

NO_VALUES = "undefined: one of the tables has no value in this column"


def columns(real: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract, draws: Draws) -> tuple[ColumnQuality, ...]:
    """Compare each feature and the outcome; both tables as :func:`.tables.checked` gives them."""
    return tuple(_column(real, synthetic, column, draws) for column in used_columns(contract))


def _column(real: pd.DataFrame, synthetic: pd.DataFrame, column: Column, draws: Draws) -> ColumnQuality:
    coded = Coded.of((real, synthetic), column)
    measure = ks if coded.ordered else total_variation

    def distance(first: Ints, second: Ints) -> Floats:
        return np.array([measure(first[:-1], second[:-1]), abs(_missing(first) - _missing(second))])

    shape, missing = fidelities(coded.counts, distance, draws, NO_VALUES)
    return ColumnQuality(
        name=column.name,
        kind=column.kind,
        measure="ks" if coded.ordered else "tv",
        shape=shape,
        missing=missing,
        missing_real=_missing(coded.counts(0)),
        missing_synthetic=_missing(coded.counts(1)),
        histogram=_histogram(real[column.name], synthetic[column.name], column),
    )


def _missing(counts: Ints) -> float:
    return float(counts[-1] / counts.sum())


def overall(figures: list[Fidelity]) -> Overall:
    """Mean of distances and of floors over what is measured."""
    both = [(f.value, f.floor) for f in figures]
    known = [(v, f) for v, f in both if not isinstance(v, NotMeasured) and not isinstance(f, NotMeasured)]
    if not known:
        return Overall(NotMeasured("undefined everywhere"), NotMeasured("undefined everywhere"), 0, 0)
    return Overall(
        mean=float(np.mean([v for v, _ in known])),
        floor=float(np.mean([f for _, f in known])),
        measured=len(known),
        beyond_floor=sum(f.verdict == "beyond the floor" for f in figures),
    )


def _histogram(real: pd.Series[Any], synthetic: pd.Series[Any], column: Column) -> Histogram:
    if column.kind != "number":
        levels = column.levels if column.kind == "category" else ("0", "1")
        keys: tuple[object, ...] = levels if column.kind == "category" else (0.0, 1.0)
        return Histogram((), levels, _level_shares(real, keys), _level_shares(synthetic, keys))
    assert column.low is not None, column.name  # the contract's validator saw to it
    assert column.high is not None, column.name
    if column.log and column.low > 0:
        edges = np.geomspace(column.low, column.high, BINS + 1)
    else:
        edges = np.linspace(column.low, column.high, BINS + 1)
    return Histogram(tuple(float(e) for e in edges), (), _bin_shares(real, edges), _bin_shares(synthetic, edges))


def _level_shares(values: pd.Series[Any], keys: tuple[object, ...]) -> tuple[float, ...]:
    there = max(int(values.notna().sum()), 1)
    return tuple(float((values == key).sum() / there) for key in keys)


def _bin_shares(values: pd.Series[Any], edges: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Shares per bin; what lies outside the bounds is left out, and the shares then add up to less than 1."""
    there = values.dropna().to_numpy(dtype=np.float64)
    return tuple(float(share) for share in np.histogram(there, edges)[0] / max(len(there), 1))
