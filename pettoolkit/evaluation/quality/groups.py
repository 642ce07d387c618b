"""Groups of patients that figures are given for: protected attributes and hospitals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.evaluation.subgroups import AGE_BANDS, age_bands

HOSPITAL = "hospital"

Names = npt.NDArray[np.object_]


def protected(contract: Contract) -> tuple[Column, ...]:
    """List the protected attributes: quasi-identifiers that are 0/1 or a category, and age."""
    return tuple(
        column
        for column in contract.feature_columns
        if column.quasi_identifier and (column.kind != "number" or column.name.lower() == "age")
    )


def levels(column: Column) -> tuple[str, ...]:
    """Give the groups of a protected attribute, in their order."""
    if column.kind == "number":
        return age_bands()
    return ("0", "1") if column.kind == "binary" else column.levels


def memberships(frame: pd.DataFrame, column: Column) -> npt.NDArray[np.int64]:
    """Index into :func:`levels` of each row, -1 where missing or unknown; ``frame`` as ``checked`` gives it."""
    values = frame[column.name]
    if column.kind == "category":
        return np.asarray(pd.Categorical(values, categories=list(column.levels)).codes, dtype=np.int64)
    numbers = values.to_numpy(dtype=np.float64)
    if column.kind == "number":
        return np.where(np.isnan(numbers), -1, np.digitize(numbers, AGE_BANDS)).astype(np.int64)
    return np.where(np.isin(numbers, (0.0, 1.0)), np.nan_to_num(numbers), -1).astype(np.int64)


def named_groups(
    frame: pd.DataFrame, contract: Contract, hospital: Names | None
) -> Mapping[tuple[str, str], npt.NDArray[np.int64]]:
    """Give the rows of each hospital (where there are several) and of each group: ``{(attribute, level): rows}``."""
    out: dict[tuple[str, str], npt.NDArray[np.int64]] = {}
    if hospital is not None and len(set(hospital)) > 1:
        out |= {(HOSPITAL, name): np.flatnonzero(hospital == name) for name in sorted(set(hospital))}
    for column in protected(contract):
        member = memberships(frame, column)
        rows = {(column.name, level): np.flatnonzero(member == i) for i, level in enumerate(levels(column))}
        out |= {group: index for group, index in rows.items() if len(index)}
    return out
