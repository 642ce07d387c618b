"""Outside: tables that hospitals handed over, kept beside the cell's result with what must be said of them."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence

import pandas as pd

from pettoolkit.records import Json

SUMS = {
    "added": "balance_added",
    "added_positive": "balance_added_positive",
    "clipped": "violations/clipped",
    "rows": "rows",
}
"""Figures of the hospitals that are added up: theirs -> ours, below ``synthetic/``."""


def table_of(tables: Sequence[pd.DataFrame], kind: str, *, guaranteed: bool) -> dict[str, Json]:
    """The pooled table as it left, for :attr:`Outcome.released_table`: no word of which row came from where.

    Parameters
    ----------
    kind
        ``synthetic_records`` or ``anonymised_records``.
    guaranteed
        Whether its rows have a guarantee for patients; without one it is to stay internal.
    """
    pooled = pd.concat(list(tables), ignore_index=True)
    buffer = io.BytesIO()
    pooled.to_parquet(buffer, index=False)
    return {
        "kind": kind,
        "rows": len(pooled),
        "columns": list(pooled.columns),
        "guaranteed": guaranteed,
        "parquet": base64.b64encode(buffer.getvalue()).decode(),
    }


def rows_released(released: Mapping[str, Json]) -> pd.DataFrame:
    """The table of :attr:`Outcome.released_table`: the inverse of :func:`table_of`."""
    return pd.read_parquet(io.BytesIO(base64.b64decode(released["parquet"])))


def figures_of(reported: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """What the generators' side says of its tables, over all of them, under the names of metrics.

    ``synthetic/violations/<rule>`` counts drawn rows or values that broke a rule of contract or physiology,
    ``synthetic/violations_left/<rule>`` those of the table that was handed over; ``synthetic/filter/*`` rows that were
    held back and mean AUROC before and after; ``synthetic/rows`` and ``synthetic/balance_added`` rows;
    ``cost/fit_seconds`` what fitting took in all hospitals together, in whichever cell it was done.
    """
    out: dict[str, float] = {}
    for figures in reported:
        for name, value in figures.items():
            if (named := _metric(name)) is not None:
                out[named] = out.get(named, 0.0) + value
    for name in [name for name in out if "auroc" in name or name.endswith("/limit")]:
        out[name] /= sum(name.removeprefix("synthetic/") in figures for figures in reported)
    return out


def added_of(figures: Mapping[str, float]) -> tuple[float, float]:
    """Rows that were added for balance, and how many of them have the outcome."""
    return figures.get("synthetic/balance_added", 0.0), figures.get("synthetic/balance_added_positive", 0.0)


def notes_of(figures: Mapping[str, float]) -> tuple[str, ...]:
    """What a reader of the table must know, in words."""
    rows = figures.get("synthetic/rows", 0.0)
    lines = [f"{rows:.0f} synthetic rows"]
    if added := figures.get("synthetic/balance_added"):
        lines.append(f"{added:.0f} of the rows were added for balance; the model's log-odds are put back for them")
    broken = _counts(figures, "synthetic/violations/")
    if broken:
        lines.append(f"rules broken by rows as they were drawn: {broken}")
    left = _counts(figures, "synthetic/violations_left/")
    if broken or left:
        lines.append(f"rules broken by the rows handed over: {left or 'none'}")
    if "synthetic/filter/exact" in figures:
        held = (figures[f"synthetic/filter/{what}"] for what in ("exact", "close"))
        aurocs = (figures.get(f"synthetic/filter/auroc_{when}", float("nan")) for when in ("before", "after"))
        lines.append(
            "the release filter held back {:.0f} repeats of a patient and {:.0f} rows too close to one; mean AUROC on "
            "the hospitals' validation patients {:.3f} before, {:.3f} after".format(*held, *aurocs)
        )
    return tuple(lines)


def _metric(name: str) -> str | None:
    if name == "fit_seconds":
        return "cost/fit_seconds"
    kind, _, rule = name.partition("/")
    if kind == "drawn":
        return f"synthetic/violations/{_slug(rule)}"
    if kind == "left":
        return f"synthetic/violations_left/{_slug(rule)}"
    if kind == "filter":
        return f"synthetic/{name}"
    return f"synthetic/{SUMS[name]}" if name in SUMS else None


def _slug(rule: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", rule.lower()).strip("_")


def _counts(figures: Mapping[str, float], prefix: str) -> str:
    found = {name.removeprefix(prefix).replace("_", " "): v for name, v in figures.items() if name.startswith(prefix)}
    return ", ".join(f"{rule} {count:.0f}" for rule, count in found.items() if count)
