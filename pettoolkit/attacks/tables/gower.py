"""How far a patient is from released rows: Gower's (1971) distance, to ranges and sets as well as to values.

Over the columns it adds up: for a number the gap between value and range as a share of the public range, for a level
1 if it is not allowed, and 1 if a value is missing where the cell says it is not (or the other way round).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from pettoolkit.attacks.statistics import Floats, Ints
from pettoolkit.attacks.tables.released import Span

_CHUNK = 4_000_000
MIDDLE = 0.5
"""Where a missing number stands, so that its distance to present ones is that of the indicator and at most .5 more."""


def nearest(values: Floats, spans: Sequence[Span], *, others: bool = False) -> tuple[Floats, Ints]:
    """Find the nearest released row of each patient.

    A range [a, b] has distance ``(|v - a| + |v - b| - (b - a)) / 2`` from v, a set S of levels
    ``(|one_hot(v) - indicator(S)|_1 - (|S| - 1)) / 2``: both are city-block distances of longer vectors, less
    something that depends on the released row alone.

    Parameters
    ----------
    values
        Patients, shape (n, spans), as from :func:`pettoolkit.attacks.tables.released.place`.
    others
        Patient i is released row i: look for the nearest other row.

    Returns
    -------
    distance, row
        Shape (n,) each; the first of the nearest rows.
    """
    parts = [_parts(values[:, j], span) for j, span in enumerate(spans)]
    x = torch.from_numpy(np.concatenate([p[0] for p in parts], axis=1, dtype=np.float32))
    y = torch.from_numpy(np.concatenate([p[1] for p in parts], axis=1, dtype=np.float32))
    less = np.sum([p[2] for p in parts], axis=0)
    distance, row = np.zeros(len(values)), np.zeros(len(values), dtype=np.int64)
    step = max(1, _CHUNK // max(1, len(y)))
    for start in range(0, len(x), step):
        apart = torch.cdist(x[start : start + step], y, p=1.0).numpy() - less
        here = np.arange(len(apart))
        if others:
            apart[here, here + start] = np.inf
        best = apart.argmin(axis=1)
        distance[start : start + step], row[start : start + step] = apart[here, best], best
    return np.maximum(np.where(distance < 1e-6, 0.0, distance), 0.0), row


def _parts(values: Floats, span: Span) -> tuple[Floats, Floats, Floats]:
    """One column as vectors of patients and of released rows, and what is subtracted for each released row."""
    return _number(values, span) if span.column.kind == "number" else _levels(values, span)


def _number(values: Floats, span: Span) -> tuple[Floats, Floats, Floats]:
    absent, known = np.isnan(values), ~np.isnan(span.low)
    low, high = np.where(known, span.low, MIDDLE), np.where(known, span.high, MIDDLE)
    value = np.where(absent, MIDDLE, values)
    if (low == high).all():
        x, y, less = value[:, None], low[:, None], np.zeros(len(low))
    else:
        x, y, less = np.column_stack([value, value]) / 2, np.column_stack([low, high]) / 2, (high - low) / 2
    if absent.any() or span.missing.any():  # two levels, present and missing; a cell may allow both
        x = np.column_stack([x, absent / 2, ~absent / 2])
        y = np.column_stack([y, span.missing / 2, known / 2])
        less = less + (known & span.missing) / 2
    return x, y, less


def _levels(values: Floats, span: Span) -> tuple[Floats, Floats, Floats]:
    absent = np.isnan(values)
    allowed = np.column_stack([span.levels, span.missing])  # "missing" is one more level
    one_hot = np.zeros((len(values), allowed.shape[1]))
    one_hot[np.arange(len(values)), np.where(absent, allowed.shape[1] - 1, values).astype(np.int64)] = 1.0
    return one_hot / 2, allowed / 2, np.maximum(allowed.sum(axis=1) - 1, 0) / 2
