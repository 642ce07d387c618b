"""From hourly ICU stays to one row per stay: the first hours seen, the outcome later.

A stay counts if it is longer than the landmark and its label is not yet positive by then; y = 1 if the
label becomes positive afterwards. Length of stay is never a feature: stays of septic patients end
soon after onset, so it would leak the outcome.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column, Contract

Floats = npt.NDArray[np.float64]


def row_contract(contract: Contract) -> Contract:
    """The contract of the rows that :func:`landmark_rows` makes from an hourly contract."""
    columns: list[Column] = []
    for column in contract.columns:
        if column.role == "time":
            continue
        if column.role == "outcome":
            columns.append(column.model_copy(update={"kind": "binary", "low": None, "high": None}))
            continue
        columns.append(column.model_copy(update={"summaries": ()}))
        columns += [_summary_column(column, s, contract.landmark_hours) for s in column.summaries]
    return contract.model_copy(update={"grain": "row", "columns": tuple(columns)})


def landmark_rows(hours: pd.DataFrame, contract: Contract) -> pd.DataFrame:
    """One row per stay that qualifies.

    Parameters
    ----------
    hours
        Hourly rows of one hospital; rows of a patient are contiguous and in order of time.
    contract
        Contract of grain ``hour``.

    Returns
    -------
    DataFrame
        Columns of :func:`row_contract`, in the order of first appearance of the patients; the
        outcome is 0 or 1, numbers are float64 with NaN where never measured before the landmark.
    """
    id_column = contract.named("patient_id")
    assert id_column is not None  # the contract's validator saw to it
    ids = hours[id_column].to_numpy()
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]]) if len(ids) else np.zeros(0, dtype=np.intp)
    lengths = np.diff(np.r_[starts, len(ids)])
    stay = np.repeat(np.arange(len(starts)), lengths)
    hour = np.arange(len(ids)) - np.repeat(starts, lengths)

    label = hours[contract.outcome.name].to_numpy() == 1
    onset = np.full(len(starts), np.iinfo(np.int64).max)
    np.minimum.at(onset, stay[label], hour[label])
    kept = (lengths > contract.landmark_hours) & (onset >= contract.landmark_hours)

    early = (hour < contract.landmark_hours) & kept[stay]
    index = np.cumsum(kept)[stay[early]] - 1
    n = int(kept.sum())
    out: dict[str, npt.NDArray[np.generic]] = {}
    for column in contract.columns:
        values = hours[column.name].to_numpy()
        if column.role == "time":
            continue
        if column.role == "outcome":
            out[column.name] = (onset[kept] < np.iinfo(np.int64).max).astype(np.int8)
        elif column.role != "feature" or column.kind == "category":
            out[column.name] = (
                values[starts[kept]] if column.role != "feature" else _last_object(values[early], index, n)
            )
        else:
            window = values[early].astype(np.float64)
            out[column.name] = _last(window, index, n)
            for summary in column.summaries:
                out[f"{column.name}_{summary}"] = _summarise(window, hour[early], index, n, summary)
    return pd.DataFrame(out)


def _summary_column(column: Column, summary: str, hours: int) -> Column:
    update: dict[str, object] = {
        "name": f"{column.name}_{summary}",
        "features": "full",
        "summaries": (),
        "missing": "zero",
        "quasi_identifier": False,
        "integer": False,
    }
    if summary == "count":
        update |= {
            "unit": "measurements",
            "low": 0.0,
            "high": float(hours),
            "log": False,
            "missing": "never",
            "integer": True,
        }
    elif summary == "slope":
        assert column.low is not None
        assert column.high is not None
        reach = (column.high - column.low) / hours
        update |= {"unit": f"{column.unit}/h", "low": -reach, "high": reach, "log": False}
    return column.model_copy(update=update)


def _last(values: Floats, index: npt.NDArray[np.intp], n: int) -> Floats:
    out = np.full(n, np.nan)
    seen = ~np.isnan(values)
    out[index[seen]] = values[seen]  # rows are in order of time, so the last assignment stays
    return out


def _last_object(values: npt.NDArray[np.generic], index: npt.NDArray[np.intp], n: int) -> npt.NDArray[np.object_]:
    out = np.full(n, None, dtype=object)
    seen = ~pd.isna(values)
    out[index[seen]] = values[seen]
    return out


def _summarise(values: Floats, hour: npt.NDArray[np.int_], index: npt.NDArray[np.intp], n: int, summary: str) -> Floats:
    seen = ~np.isnan(values)
    values, hour, index = values[seen], hour[seen].astype(np.float64), index[seen]
    count = np.bincount(index, minlength=n).astype(np.float64)
    if summary == "count":
        return count
    empty = count == 0
    if summary in ("min", "max"):
        out = np.full(n, np.inf if summary == "min" else -np.inf)
        (np.minimum if summary == "min" else np.maximum).at(out, index, values)
        return np.where(empty, np.nan, out)
    total = np.bincount(index, weights=values, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        if summary == "mean":
            return mean
        mean_hour = np.bincount(index, weights=hour, minlength=n) / count
        centred = hour - mean_hour[index]
        spread = np.bincount(index, weights=centred**2, minlength=n)
        slope = np.bincount(index, weights=centred * values, minlength=n) / spread
    return np.where(spread > 0, slope, np.nan)
