"""What can be wrong in the tables of several hospitals together: sites, patients, hours, dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.columns import MISSING_VALUES, NOT_DATES, Bools, Findings, Objects
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.tablefile import TableFile
from pettoolkit.cohort.yamlfile import read_yaml
from pettoolkit.cohort.yamlmessages import did_you_mean

PERIOD = "period"
"""Column of the rows that says ``train`` or ``test``, where the contract splits by date."""

_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def contract_findings(contract: Contract, path: Path) -> list[str]:
    """List what a contract for own tables lacks beyond what every contract must have."""
    document, lines = read_yaml(path), []
    for i, column in enumerate(contract.columns):
        if column.summaries and contract.grain == "row":
            line = document.line(("columns", i, "summaries"))
            lines.append(f"{path}:{line}: columns.{i}.summaries: column {column.name}: summaries need grain hour")
    if contract.split is not None:
        if contract.column(contract.split.by).role != "date":
            line = document.line(("split", "by"))
            lines.append(f"{path}:{line}: split.by: column {contract.split.by} must have role date")
        if pd.isna(_dates(np.array([contract.split.cut], dtype=object))[0]):
            line = document.line(("split", "cut"))
            lines.append(f"{path}:{line}: split.cut: must be a date like 2015-12-31 (got {contract.split.cut})")
        if any(c.name == PERIOD for c in contract.columns):
            line = document.line(("columns",))
            lines.append(f"{path}:{line}: columns: the name {PERIOD} is taken by the split by date")
    return lines


@dataclass(frozen=True)
class Gathered:
    """Rows of all files, one after the other: values, missing marks by column, and where each row comes from."""

    frame: pd.DataFrame
    missing: dict[str, Bools]
    site: Objects
    file: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]
    files: tuple[TableFile, ...]

    def where(self, i: int) -> str:
        """File and row of row ``i``."""
        file: TableFile = self.files[self.file[i]]
        return file.where(int(self.row[i]))

    def take(self, order: npt.NDArray[np.intp]) -> Gathered:
        """Put the rows in another order."""
        if np.array_equal(order, np.arange(len(order))):
            return self
        missing = {name: mask[order] for name, mask in self.missing.items()}
        frame = self.frame.iloc[order].reset_index(drop=True)
        return Gathered(frame, missing, self.site[order], self.file[order], self.row[order], self.files)


def check_headers(files: Sequence[TableFile], contract: Contract, findings: Findings) -> None:
    """Report columns that the contract does not know, and columns that a file lacks."""
    known = [c.name for c in contract.columns]
    needed = [c.name for c in contract.columns if c.role != "ignored"]
    lines = []
    for file in files:
        have = file.table.column_names
        for name in have:
            if name not in known:
                free = [k for k in known if k not in have]
                hint = did_you_mean(name, free) or "list it in the contract, with role ignored if it is not to be used"
                lines.append(f"{file.header}: {name}: the contract has no such column ({hint})")
        absent = [n for n in needed if n not in have]
        lines += [f"{file.header}: {name}: the column is missing" for name in absent]
    findings.add_lines("problems with columns", lines)


def check_sites(gathered: Gathered, site_column: str | None, findings: Findings) -> None:
    """Report names that cannot be a hospital's, and two files of one name."""
    first: dict[str, int] = {}
    for i, name in enumerate(gathered.site):
        if name is not None:
            first.setdefault(name, i)
    bad = [i for name, i in first.items() if not _SITE_NAME.match(name)]
    findings.add(
        "names of hospitals",
        site_column or "",
        bad,
        lambda i: f"{gathered.where(i)}: hospital {gathered.site[i]!r}: must be letters, digits, - _ .",
    )
    if site_column is None:
        stems = [f.path.stem for f in gathered.files]
        twice = [f for i, f in enumerate(gathered.files) if f.path.stem in stems[:i]]
        lines = [f"{f.path}: there is another file for hospital {f.path.stem}" for f in twice]
        findings.add_lines("hospitals twice", lines)


def check_patients(gathered: Gathered, contract: Contract, findings: Findings) -> None:
    """Report patients in two hospitals; several rows of a patient in one hospital are the patient's rows."""
    name = contract.named("patient_id")
    if name is None:
        return
    ids = gathered.frame[name].to_numpy()
    there = np.flatnonzero(~pd.isna(ids) & ~pd.isna(gathered.site))
    first: dict[str, int] = {}
    shared: dict[tuple[str, str], int] = {}
    for i in there:
        before = first.setdefault(ids[i], i)
        if gathered.site[before] != gathered.site[i]:
            shared.setdefault((ids[i], gathered.site[i]), i)
    findings.add(
        "patients in two hospitals",
        name,
        list(shared.values()),
        lambda i: (
            f"{gathered.where(i)}: {name}: hospitals {gathered.site[first[ids[i]]]} and {gathered.site[i]} have "
            f"the same patient (also {gathered.where(first[ids[i]])}); a patient must be in one hospital"
        ),
    )


def check_hours(gathered: Gathered, contract: Contract, findings: Findings) -> Gathered:
    """Sort the rows by stay and time, and report hours that are missing or there twice."""
    name, time = contract.named("patient_id"), contract.named("time")
    codes = _stay_codes(gathered, name)
    hours = gathered.frame[time].to_numpy(dtype=np.float64) if time else np.arange(len(codes), dtype=np.float64)
    order = np.lexsort((hours, codes))
    gathered, codes, hours = gathered.take(order), codes[order], hours[order]
    step, same = np.diff(hours), codes[1:] == codes[:-1]
    with np.errstate(invalid="ignore"):
        bad = 1 + np.flatnonzero(same & ~np.isnan(step) & (step != 1))
    if time:
        findings.add(
            "hours that do not follow each other",
            time,
            bad,
            lambda i: (
                f"{gathered.where(i)}: {time}: the patient's hour before is {hours[i - 1]:g} (got {hours[i]:g}); "
                "grain hour has one row for each hour"
            ),
        )
    else:
        findings.add(
            "rows that do not stand together",
            name or "",
            bad,
            lambda i: (
                f"{gathered.where(i)}: {name}: the patient's rows do not stand together; "
                "without a column of role time they must, in order of time"
            ),
        )
    return gathered


def _stay_codes(gathered: Gathered, name: str | None) -> npt.NDArray[np.intp]:
    """Give each row the number of its stay, counted in the order of first appearance."""
    keys = pd.MultiIndex.from_arrays([gathered.site.astype(str), gathered.frame[name].astype(str)])
    codes: npt.NDArray[np.intp] = pd.factorize(keys)[0]
    return codes


def check_never_missing(gathered: Gathered, contract: Contract, findings: Findings) -> None:
    """Report missing values where none may be; of grain ``hour``, stays without a value before the landmark."""
    for column in contract.feature_columns:
        if column.missing != "never" or column.name not in gathered.missing:
            continue
        rows = np.flatnonzero(gathered.missing[column.name])
        if contract.grain == "hour" and len(rows):
            codes = _stay_codes(gathered, contract.named("patient_id"))
            start = np.r_[True, codes[1:] != codes[:-1]]
            begins = np.flatnonzero(start)
            hour = np.arange(len(codes)) - begins[np.cumsum(start) - 1]
            seen = ~gathered.missing[column.name] & (hour < contract.landmark_hours)
            has_value = np.zeros(len(codes), dtype=bool)
            has_value[codes[seen]] = True
            rows = begins[~has_value[codes[begins]]]
        why = f"{column.name}: is missing; the contract says missing: never"
        findings.add(MISSING_VALUES, column.name, rows, partial(_said, gathered, why))


def _said(gathered: Gathered, what: str, i: int) -> str:
    return f"{gathered.where(i)}: {what}"


def _dates(texts: Objects) -> npt.NDArray[np.datetime64]:
    parsed = pd.to_datetime(pd.Series(texts, dtype=object), format="ISO8601", errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).to_numpy()


def period_of(gathered: Gathered, contract: Contract, findings: Findings) -> Objects | None:
    """``train`` before the contract's date and ``test`` from it, for each row."""
    if contract.split is None or gathered.frame.empty:
        return None
    name = contract.split.by
    texts = gathered.frame[name].to_numpy()
    dates = _dates(texts)
    findings.add(
        NOT_DATES,
        name,
        np.flatnonzero(pd.isna(dates) & ~gathered.missing[name] & ~pd.isna(texts)),
        lambda i: f"{gathered.where(i)}: {name}: must be a date like 2015-12-31 (got {texts[i]})",
    )
    findings.add(
        MISSING_VALUES,
        name,
        np.flatnonzero(gathered.missing[name]),
        lambda i: f"{gathered.where(i)}: {name}: is missing; the split by date needs it",
    )
    cut = _dates(np.array([contract.split.cut], dtype=object))[0]
    return np.where(dates < cut, "train", "test").astype(object)
