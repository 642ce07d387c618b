"""The scores that SDV's users report, by sdmetrics itself, so that a declaration can be held against other people's."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
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
    half: pd.DataFrame, synthetic: pd.DataFrame, floor: Mapping[str, Value] | NotMeasured, contract: Contract
) -> SdmetricsScores | NotMeasured:
    """Put the scores of half the real rows against as many synthetic ones beside those against real ones (``floor``).

    Missing values are left out by sdmetrics, except in tables of levels, where they are one more level.
    """
    made = properties(half, synthetic, contract)
    if isinstance(made, NotMeasured):
        return made
    if isinstance(floor, NotMeasured):
        return floor
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


def properties(real: pd.DataFrame, other: pd.DataFrame, contract: Contract) -> Mapping[str, Value] | NotMeasured:
    """Column Shapes and Column Pair Trends by name."""
    if len(used_columns(contract)) > COLUMNS_AT_MOST:
        return NotMeasured(f"more than {COLUMNS_AT_MOST} columns: sdmetrics would take minutes")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # constant columns, and sdmetrics' own deprecations
        from sdmetrics.reports.single_table import QualityReport

        report = QualityReport()
        report.generate(real.head(ROWS_AT_MOST), other.head(ROWS_AT_MOST), metadata(contract), verbose=False)
        found = dict(report.get_properties().itertuples(index=False, name=None))
    unknown = NotMeasured("sdmetrics gives no score")
    return {name: unknown if pd.isna(score) else float(score) for name, score in found.items()}
