"""The scores that SDV's users report, by sdmetrics itself, so that a declaration can be held against other people's."""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.evaluation.quality.figures import SdmetricsScores, Value
from pettoolkit.evaluation.quality.tables import used_columns
from pettoolkit.records import NotMeasured

COLUMNS_AT_MOST = 40
"""Sdmetrics counts each pair of columns by itself, which takes minutes for more columns."""

ROWS_AT_MOST = 5_000
"""Of each table; of more the first ones, which are in random order."""


def scores(
    half: pd.DataFrame, other: pd.DataFrame, synthetic: pd.DataFrame, contract: Contract
) -> SdmetricsScores | NotMeasured:
    """Column Shapes and Column Pair Trends of half the real rows against as many synthetic and as many real ones.

    Missing values are left out by sdmetrics, except in tables of levels, where they are one more level.
    """
    if len(used_columns(contract)) > COLUMNS_AT_MOST:
        return NotMeasured(f"more than {COLUMNS_AT_MOST} columns: sdmetrics would take minutes")
    made, floor = _properties(half, synthetic, contract), _properties(half, other, contract)
    return SdmetricsScores(
        column_shapes=made["Column Shapes"],
        column_shapes_floor=floor["Column Shapes"],
        column_pair_trends=made["Column Pair Trends"],
        column_pair_trends_floor=floor["Column Pair Trends"],
    )


def metadata(contract: Contract) -> dict[str, Any]:
    """Describe the columns to sdmetrics; never detected from data."""
    kinds = {"number": "numerical", "binary": "categorical", "category": "categorical"}
    return {"columns": {c.name: {"sdtype": kinds[c.kind]} for c in used_columns(contract)}}


def _properties(real: pd.DataFrame, other: pd.DataFrame, contract: Contract) -> dict[str, Value]:
    from sdmetrics.reports.single_table import QualityReport

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # constant columns, and sdmetrics' own deprecations
        report = QualityReport()
        report.generate(real.head(ROWS_AT_MOST), other.head(ROWS_AT_MOST), metadata(contract), verbose=False)
        found = dict(report.get_properties().itertuples(index=False, name=None))
    unknown = NotMeasured("sdmetrics gives no score")
    return {name: unknown if pd.isna(score) else float(score) for name, score in found.items()}
