"""Released tables as what their cells allow: one value, a range, a set of levels, missing, or anything (suppressed).

A plain table is the case in which each cell allows one value. Numbers are on the contract's public scale, [0, 1]
between the public bounds. What people write for a generalised cell: ``[61, 70]`` (also ``[61, 70[``, ``(61, 70]``,
``61-70``, ``>=61``, ``<70``), ``{f, m}``, ``missing or [1.2, 3]``, ``missing``, and ``*`` for suppressed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from pettoolkit.attacks.statistics import Bools, Floats, Ints
from pettoolkit.cohort.contract import Column
from pettoolkit.errors import BadInput
from pettoolkit.synthesis.rows import number, to_unit

ROUNDING = 1e-5
"""Share of the public range by which a written end of a range may be off (six significant digits are written)."""

SUPPRESSED = "*"
MISSING = ("", "missing", "nan", "NaN", "NA", "None", "null")
_MAYBE = "missing or "
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"^(?:[\[\]()]\s*({_NUMBER})\s*[,;]\s*({_NUMBER})\s*[\[\]()]|({_NUMBER})\s*[-~]\s*({_NUMBER}))$")
_BEYOND = re.compile(rf"^([<>])=?\s*({_NUMBER})$")
_CHUNK = 8_000_000
"""Pairs of patient and released row that are compared at a time."""


@dataclass(frozen=True)
class Span:
    """One released column.

    ``low`` and ``high`` (numbers; NaN where no number is allowed) have shape (m,), ``levels`` (other kinds) says
    which levels are allowed, shape (m, levels), and ``missing`` whether "missing" is, shape (m,).
    """

    column: Column
    low: Floats
    high: Floats
    levels: Bools
    missing: Bools

    def __len__(self) -> int:
        return len(self.missing)

    @property
    def plain(self) -> bool:
        """Whether each cell allows exactly one thing."""
        if self.column.kind == "number":
            known = ~np.isnan(self.low)
            return bool((self.low[known] == self.high[known]).all() and (known ^ self.missing).all())
        return bool((self.levels.sum(axis=1) + self.missing == 1).all())

    @property
    def suppressed(self) -> Bools:
        """Which cells allow everything, shape (m,)."""
        if self.column.kind == "number":
            return self.missing & (self.low <= 0) & (self.high >= 1)
        return np.asarray(self.missing & self.levels.all(axis=1))

    def take(self, index: Ints) -> Span:
        """Only these rows."""
        return Span(self.column, self.low[index], self.high[index], self.levels[index], self.missing[index])

    def allows(self, values: Floats, rows: Ints | slice, tolerance: float = 0.0) -> Bools:
        """Whether cells allow values, elementwise over the broadcast of ``values`` and the cells of ``rows``.

        ``values`` are those of :func:`place`; numbers may be off by ``tolerance`` of the public range.
        """
        absent = np.isnan(values)
        if self.column.kind == "number":
            slack = tolerance + ROUNDING
            with np.errstate(invalid="ignore"):
                fits = (values >= self.low[rows] - slack) & (values <= self.high[rows] + slack)
        else:
            codes = np.where(absent, 0, values).astype(np.int64)
            if isinstance(rows, slice):
                fits = self.levels[rows].T[codes[:, 0]] & ~absent
            else:
                fits = self.levels[rows, codes] & ~absent
        return np.asarray(fits | (absent & self.missing[rows]))

    def middle(self) -> Floats:
        """The cell as one value of :func:`place`: middle of the range, first allowed level, else NaN (missing)."""
        if self.column.kind == "number":
            return np.asarray((self.low + self.high) / 2)
        return np.where(self.levels.any(axis=1), self.levels.argmax(axis=1), np.nan)


def levels_of(column: Column) -> tuple[str, ...]:
    """Names of the levels of a binary or category column."""
    return ("0", "1") if column.kind == "binary" else column.levels


def place(rows: pd.DataFrame, columns: Sequence[Column]) -> Floats:
    """Real rows on the public scale, NaN where missing, shape (n, columns).

    A number goes to [0, 1] between its public bounds, a level to its position in the contract.
    """
    return np.column_stack([_placed(rows, c) for c in columns]) if columns else np.zeros((len(rows), 0))


def _placed(rows: pd.DataFrame, column: Column) -> Floats:
    if column.kind == "number":
        return to_unit(number(rows, column.name), column)
    if column.kind == "binary":
        return number(rows, column.name)
    text = rows[column.name].astype("object")
    out = np.full(len(rows), np.nan)
    for i, level in enumerate(column.levels):
        out[(text == level).to_numpy(dtype=bool)] = i
    return out


def read_spans(table: pd.DataFrame, columns: Sequence[Column]) -> tuple[Span, ...]:
    """Read the cells of a released table.

    Parameters
    ----------
    table
        Released rows in natural units; generalised cells are text. In a binary column a number strictly between 0 and
        1 stands for a set of both levels.

    Raises
    ------
    BadInput
        With the column and row (from 1) of each cell that is no value, range or set of levels of the contract.
    """
    wrong: list[str] = []
    spans = tuple(_span(table[c.name], c, wrong) for c in columns)
    if wrong:
        more = [f"... and {len(wrong) - 20} more such cells"] if len(wrong) > 20 else []
        raise BadInput([*wrong[:20], *more])
    return spans


def _span(cells: pd.Series[Any], column: Column, wrong: list[str]) -> Span:
    codes, texts = pd.factorize(cells.astype("object"), use_na_sentinel=True)
    low, high = np.full(len(texts) + 1, np.nan), np.full(len(texts) + 1, np.nan)
    levels = np.zeros((len(texts) + 1, 0 if column.kind == "number" else len(levels_of(column))), dtype=bool)
    missing = np.zeros(len(texts) + 1, dtype=bool)
    missing[-1] = True  # code -1 is an absent cell
    if column.kind == "number":
        values = pd.to_numeric(pd.Series(texts, dtype="object"), errors="coerce").to_numpy(dtype=np.float64)
        low[:-1] = high[:-1] = to_unit(values, column)
        odd = np.flatnonzero(np.isnan(values))
    else:
        odd = np.arange(len(texts))
    for i in odd:
        text = str(texts[i]).strip()
        maybe = text.startswith(_MAYBE)
        text = text.removeprefix(_MAYBE)
        if text == SUPPRESSED:
            low[i], high[i], levels[i], missing[i] = 0.0, 1.0, True, True
        elif text in MISSING and text not in column.levels:
            missing[i] = True
        else:
            missing[i] = maybe
            if not _read(text, column, i, low, high, levels):
                row = int(np.flatnonzero(codes == i)[0]) + 1
                wrong.append(f"row {row}: {column.name}: is no {_expected(column)} (got {str(texts[i])[:60]})")
    return Span(column, low[codes], high[codes], levels[codes], missing[codes])


def _read(text: str, column: Column, i: int, low: Floats, high: Floats, levels: Bools) -> bool:
    """Write what a cell's text allows into row ``i``; False if it can't be read."""
    if column.kind == "number":
        ends = _ends(text, column)
        if ends is None:
            return False
        low[i], high[i] = to_unit(np.array(sorted(ends)), column)
        return True
    names = levels_of(column)
    if column.kind == "binary" and re.fullmatch(_NUMBER, text):
        value = float(text)
        if not 0 <= value <= 1:
            return False
        levels[i] = [value < 1, value > 0]  # between them: a set of both
        return True
    chosen = _set_of(text, names)
    for name in chosen:
        levels[i, names.index(name)] = True
    return bool(chosen)


def _ends(text: str, column: Column) -> tuple[float, float] | None:
    if found := _RANGE.match(text):
        first, last = (float(part) for part in found.groups() if part is not None)
        return first, last
    if re.fullmatch(_NUMBER, text):
        return float(text), float(text)
    if (found := _BEYOND.match(text)) and column.low is not None and column.high is not None:
        value = float(found[2])
        return (column.low, value) if found[1] == "<" else (value, column.high)
    return None


def _set_of(text: str, names: Sequence[str]) -> list[str]:
    """Levels in ``{a, b}``, or the one level itself; empty if it is neither. A level's own name may hold commas."""
    if text in names:
        return [text]
    if not (text.startswith("{") and text.endswith("}")):
        return []
    rest, found = text[1:-1].strip(), []
    while rest:
        here = [n for n in names if rest == n or rest.startswith(f"{n},")]
        if not here:
            return []
        best = max(here, key=len)
        found.append(best)
        rest = rest[len(best) :].lstrip(", ")
    return found


def _expected(column: Column) -> str:
    if column.kind == "number":
        return "number, range such as [1, 2], 'missing' or *"
    return f"level of {', '.join(levels_of(column))}, set such as {{a, b}}, 'missing' or *"


def matches(
    values: Floats, spans: Sequence[Span], tolerance: float = 0.0, also: Bools | None = None
) -> Iterator[tuple[Ints, Ints]]:
    """Find the released rows that allow all values of each patient.

    Parameters
    ----------
    values
        Patients, shape (n, spans), as from :func:`place`.
    tolerance
        Share of the public range by which numbers may be off.
    also
        Released rows to look at, shape (m,); all if None.

    Yields
    ------
    patient, row
        Index of the patient and of the released row of each match, in blocks of patients in ascending order.
    """
    rows = np.arange(len(spans[0])) if also is None else np.flatnonzero(also)
    narrowed = [s if also is None else s.take(rows) for s in spans]
    step = max(1, _CHUNK // max(1, len(rows)))
    for start in range(0, len(values), step):
        block = values[start : start + step]
        dense = narrowed[0].allows(block[:, :1], slice(None), tolerance)
        patient, row = np.nonzero(dense)
        for j, span in enumerate(narrowed[1:], 1):
            keep = span.allows(block[patient, j], row, tolerance)
            patient, row = patient[keep], row[keep]
        yield patient + start, rows[row]


def matched(values: Floats, spans: Sequence[Span], tolerance: float = 0.0) -> Bools:
    """Whether any released row allows all values of a patient, shape (n,)."""
    out = np.zeros(len(values), dtype=bool)
    for patient, _ in matches(values, spans, tolerance):
        out[patient] = True
    return out


@dataclass(frozen=True)
class Classes:
    """Released rows that look alike in some columns.

    ``spans`` has one row per class, ``of_row`` (m,) is each released row's class, ``size`` (classes,) its rows.
    """

    spans: tuple[Span, ...]
    of_row: Ints
    size: Ints

    @classmethod
    def of(cls, spans: Sequence[Span]) -> Classes:
        """Group released rows by their cells."""
        parts = [np.column_stack([s.low, s.high, s.levels, s.missing]).astype(np.float64) for s in spans]
        key = np.nan_to_num(np.concatenate(parts, axis=1), nan=-1.0)
        _, first, of_row, size = np.unique(key, axis=0, return_index=True, return_inverse=True, return_counts=True)
        return cls(tuple(s.take(first) for s in spans), of_row.reshape(-1).astype(np.int64), size.astype(np.int64))

    def histogram(self, codes: Bools) -> Floats:
        """Count per class the cells of a secret, shape (classes, cells); ``codes`` (m, cells) says what rows allow.

        A row that allows several cells counts as a part in each.
        """
        share = codes / np.maximum(codes.sum(axis=1, keepdims=True), 1)
        out = np.zeros((len(self.size), codes.shape[1]))
        np.add.at(out, self.of_row, share)
        return out


def binned(values: Floats, spans: Sequence[Span], bins: int) -> tuple[Floats, tuple[Span, ...]]:
    """Move plain numbers to the middle of their public bin, so that near quasi-identifiers become equal.

    Patients and released rows alike; columns whose cells are ranges already are left as they are.
    """
    out, moved = values.copy(), list(spans)
    for j, span in enumerate(spans):
        if span.column.kind == "number" and span.plain:
            out[:, j] = _middle_of_bin(values[:, j], bins)
            middle = _middle_of_bin(span.low, bins)
            moved[j] = replace(span, low=middle, high=middle)
    return out, tuple(moved)


def _middle_of_bin(values: Floats, bins: int) -> Floats:
    return np.asarray((np.minimum(np.floor(values * bins), bins - 1) + 0.5) / bins)
