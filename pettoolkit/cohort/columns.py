"""One column of a table in natural units, or what is wrong with it; and the list that findings are kept in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.contract import Column
from pettoolkit.cohort.tablefile import TableFile
from pettoolkit.cohort.yamlmessages import did_you_mean, shown

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Objects = npt.NDArray[np.object_]
Rows = Sequence[int] | npt.NDArray[np.intp]

LISTED = 20
"""Findings of one kind that are printed one by one; the others are counted."""

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""How a missing value is written in a CSV file, unless it is one of a category's own levels."""

OUT_OF_BOUNDS = "values out of bounds"
NOT_NUMBERS = "values that are not numbers"
UNKNOWN_LEVELS = "values that are no known level"
NOT_BINARY = "values that are neither 0 nor 1"
NOT_LABELS = "labels that are neither 0 nor 1"
NOT_DATES = "values that are not dates"
MISSING_VALUES = "missing values"
_NUMBER = r"^[-+]?((\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|(?i:inf|infinity|nan))$"


@dataclass
class Findings:
    """What is wrong, by kind and column, in the order in which it was found."""

    _kinds: dict[str, list[tuple[str, int, list[str]]]] = field(default_factory=dict)

    def add(self, kind: str, column: str, rows: Rows, say: Callable[[int], str]) -> None:
        """Add a finding for each of ``rows``; ``say`` writes the line for one of them."""
        if len(rows):
            lines = [say(int(row)) for row in rows[:LISTED]]
            self._kinds.setdefault(kind, []).append((column, len(rows), lines))

    def add_lines(self, kind: str, lines: Sequence[str]) -> None:
        """Add findings that belong to no row."""
        if lines:
            self._kinds.setdefault(kind, []).append(("", len(lines), list(lines[:LISTED])))

    def lines(self) -> list[str]:
        """At most :data:`LISTED` lines of each kind, then how many more there are, by column."""
        out: list[str] = []
        for kind, entries in self._kinds.items():
            lines = [line for _, _, some in entries for line in some][:LISTED]
            out += lines
            total = sum(n for _, n, _ in entries)
            if total > len(lines):
                by_column: dict[str, int] = {}
                for column, n, _ in entries:
                    by_column[column] = by_column.get(column, 0) + n
                columns = ", ".join(f"{column} {n:,}" for column, n in by_column.items() if column)
                out.append(f"... and {total - len(lines):,} more {kind}" + (f" (in all: {columns})" if columns else ""))
        return out


@dataclass(frozen=True)
class Reader:
    """Reads the columns of one file and reports what is wrong in them."""

    file: TableFile
    findings: Findings

    def read(self, column: Column) -> tuple[npt.NDArray[Any], Bools]:
        """Values in natural units (float64, or text with ``None``), and where they are missing.

        What is wrong is reported, and its value is then NaN or ``None``.
        """
        if column.role == "outcome":
            return self._outcome(column)
        if column.role == "feature" and column.kind == "category":
            return self._levels(column)
        if column.kind == "binary":
            return self._zero_or_one(column, NOT_BINARY)
        if column.role in ("feature", "time") or (column.role == "unit" and column.kind == "number"):
            return self._bounded(column)
        return self._text(column.name)

    def as_written(self, column: Column) -> tuple[npt.NDArray[Any], Bools]:
        """Values and where they are missing, whether or not they keep bounds and levels.

        Only what is no (finite) number in a column of numbers is reported.
        """
        if column.kind == "category" or column.role not in ("feature", "outcome"):
            return self._text(column.name, column.levels)
        return self._numbers(column.name)

    def _outcome(self, column: Column) -> tuple[Floats, Bools]:
        values, missing = self._zero_or_one(column, NOT_LABELS)
        self.missing(column.name, np.flatnonzero(missing), "the label must be 0 or 1")
        return values, missing

    def missing(self, name: str, rows: npt.NDArray[np.intp], why: str) -> None:
        """Report missing values."""
        self.findings.add(MISSING_VALUES, name, rows, lambda i: f"{self.file.where(i)}: {name}: is missing; {why}")

    def _zero_or_one(self, column: Column, kind: str) -> tuple[Floats, Bools]:
        values, missing = self._numbers(column.name)
        bad = ~np.isnan(values) & (values != 0) & (values != 1)
        self._report(kind, column.name, bad, "must be 0 or 1")
        return np.where(bad, np.nan, values), missing

    def _bounded(self, column: Column) -> tuple[Floats, Bools]:
        values, missing = self._numbers(column.name)
        if column.low is None or column.high is None:
            return values, missing
        with np.errstate(invalid="ignore"):
            bad = (values < column.low) | (values > column.high)
        unit = f" {column.unit}" if column.unit else ""
        self._report(OUT_OF_BOUNDS, column.name, bad, f"must be between {column.low:g} and {column.high:g}{unit}")
        return values, missing

    def _levels(self, column: Column) -> tuple[Objects, Bools]:
        values, missing = self._text(column.name, column.levels)
        bad = ~missing & ~pd.Series(values).isin(column.levels).to_numpy()
        known = ", ".join(column.levels)

        def say(i: int) -> str:
            hint = did_you_mean(values[i], column.levels)
            got = shown(values[i]) + (f"; {hint}" if hint else "")
            return f"{self.file.where(i)}: {column.name}: must be one of {known} (got {got})"

        self.findings.add(UNKNOWN_LEVELS, column.name, np.flatnonzero(bad), say)
        return values, missing

    def _text(self, name: str, levels: Sequence[str] = ()) -> tuple[Objects, Bools]:
        import pyarrow as pa
        import pyarrow.compute as pc

        raw = self.file.table.column(name)
        values = np.array(pc.cast(raw, pa.string()).to_pylist(), dtype=object)
        written = [m for m in MISSING if m not in levels]
        missing = pd.isna(values) | pd.Series(values, dtype=object).isin(written).to_numpy()
        values[missing] = None
        return values, missing

    def _numbers(self, name: str) -> tuple[Floats, Bools]:
        """Float64 with NaN where missing or reported."""
        import pyarrow as pa
        import pyarrow.compute as pc

        raw = self.file.table.column(name)
        if pa.types.is_dictionary(raw.type):
            raw = pc.cast(raw, raw.type.value_type)
        if pa.types.is_string(raw.type) or pa.types.is_large_string(raw.type):
            values, missing = self._parsed(name, pc.utf8_trim_whitespace(raw))
        elif _is_numeric(raw.type):
            values = pc.cast(raw, pa.float64(), safe=False).to_numpy()
            missing = np.isnan(values)
        else:
            line = f"{self.file.header}: {name}: must be numbers (the column is {raw.type})"
            self.findings.add_lines(NOT_NUMBERS, [line])
            values, missing = np.full(len(raw), np.nan), np.zeros(len(raw), dtype=bool)
        infinite = np.isinf(values)
        self._report(OUT_OF_BOUNDS, name, infinite, "must be a finite number")
        return np.where(infinite, np.nan, values), missing

    def _parsed(self, name: str, texts: Any) -> tuple[Floats, Bools]:
        import pyarrow as pa
        import pyarrow.compute as pc

        absent = pc.fill_null(pc.is_in(texts, pa.array(MISSING)), True)
        texts = pc.if_else(absent, pa.scalar(None, pa.string()), texts)
        bad = np.zeros(len(texts), dtype=bool)
        try:
            numbers = pc.cast(texts, pa.float64())
        except pa.ArrowInvalid:
            fits = pc.fill_null(pc.match_substring_regex(texts, _NUMBER), True)
            bad = ~fits.to_numpy().astype(bool)
            self._report(NOT_NUMBERS, name, bad, "must be a number")
            numbers = pc.cast(pc.if_else(fits, texts, pa.scalar(None, pa.string())), pa.float64())
        values = numbers.to_numpy().astype(np.float64)
        return values, np.isnan(values) & ~bad

    def _report(self, kind: str, name: str, bad: Bools, message: str) -> None:
        raw = self.file.table.column(name)
        self.findings.add(
            kind,
            name,
            np.flatnonzero(bad),
            lambda i: f"{self.file.where(i)}: {name}: {message} (got {shown(raw[i].as_py())})",
        )


def _is_numeric(kind: Any) -> bool:
    import pyarrow as pa

    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_null)
    return any(test(kind) for test in tests)
