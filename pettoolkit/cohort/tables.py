"""Anyone's own tables: CSV or Parquet with a YAML contract, one file per hospital or one with a site column.

Nothing is repaired. Whatever does not fit the contract is named with its file, row and column, all of it at
once, and the table is then refused: a value that was silently clipped or dropped would be a result nobody asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.columns import MISSING_VALUES, NOT_DATES, Bools, Findings, Objects, Reader
from pettoolkit.cohort.contract import Column, Contract
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.tablefile import TableFile, read_table, table_files
from pettoolkit.cohort.yamlfile import parse, read_yaml
from pettoolkit.cohort.yamlmessages import did_you_mean
from pettoolkit.errors import BadInput

PERIOD = "period"
"""Column of the rows that says ``train`` or ``test``, where the contract splits by date."""

DEFAULT_CONTRACT = "contract.yaml"
_SITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def load_tables(
    path: Path | Sequence[Path], contract: Path | None = None
) -> tuple[dict[str, pd.DataFrame], Contract]:
    """Rows of each hospital, and the row contract that they follow.

    Parameters
    ----------
    path
        Folder with one CSV or Parquet file per hospital (named after it), one file, or several. Where the contract
        has a column with role ``site``, it names the hospital of each row instead of the file's name.
    contract
        YAML contract; ``contract.yaml`` beside the data if not given.

    Returns
    -------
    rows_of, contract
        Hospital to rows (one per patient; of grain ``hour`` after the landmark), with a column :data:`PERIOD` where the
        contract has a ``split``. Numbers are float64, the outcome int8, everything else text. A table without a
        patient id gets one (``patient_id``) from the hospital and the row's number.

    Raises
    ------
    BadInput
        With all findings, at most twenty of each kind and the number of the others.
    """
    contract_path = contract or _contract_beside(path)
    described = parse(Contract, contract_path)
    findings = Findings()
    findings.add_lines("problems in the contract", _contract_findings(described, contract_path))
    gathered = _gather(table_files(path), described, findings)
    _check_patients(gathered, described, findings)
    if described.grain == "hour":
        gathered = _check_hours(gathered, described, findings)
    _check_never_missing(gathered, described, findings)
    cut = _period(gathered, described, findings)
    lines = findings.lines()
    if lines:
        raise BadInput(lines)
    return _rows(gathered, described, cut, path)


def check_tables(contract_path: Path, data_path: Path | Sequence[Path]) -> list[str]:
    """List all that :func:`load_tables` would refuse; empty if the tables are fine."""
    try:
        load_tables(data_path, contract_path)
    except BadInput as error:
        return list(error.lines)
    return []


@dataclass(frozen=True)
class _Gathered:
    """Rows of all files, one after the other: values, missing marks by column, and where each row comes from."""

    frame: pd.DataFrame
    missing: dict[str, Bools]
    site: Objects
    file: npt.NDArray[np.intp]
    row: npt.NDArray[np.intp]
    files: tuple[TableFile, ...]

    def where(self, i: int) -> str:
        return self.files[self.file[i]].where(int(self.row[i]))

    def take(self, order: npt.NDArray[np.intp]) -> _Gathered:
        missing = {name: mask[order] for name, mask in self.missing.items()}
        frame = self.frame.iloc[order].reset_index(drop=True)
        return _Gathered(frame, missing, self.site[order], self.file[order], self.row[order], self.files)


def _contract_beside(path: Path | Sequence[Path]) -> Path:
    first = path if isinstance(path, Path) else path[0]
    beside = (first if first.is_dir() else first.parent) / DEFAULT_CONTRACT
    if not first.exists():
        raise BadInput(f"{first}: there is no such file or folder; looked for .csv or .parquet tables (sites.path)")
    if not beside.exists():
        raise BadInput(f"{beside}: there is no contract (`pettoolkit sites init FILE` drafts one), and no sites.contract")
    return beside


def _contract_findings(contract: Contract, path: Path) -> list[str]:
    """What a contract for own tables must have beyond what every contract must have."""
    document, lines = read_yaml(path), []
    if contract.split is not None:
        if contract.column(contract.split.by).role != "date":
            line = document.line(("split", "by"))
            lines.append(f"{path}:{line}: split.by: column {contract.split.by} must have role date")
        if pd.isna(_dates(np.array([contract.split.cut], dtype=object))[0]):
            line = document.line(("split", "cut"))
            lines.append(f"{path}:{line}: split.cut: must be a date like 2015-12-31 (got {contract.split.cut})")
        if any(c.name == PERIOD for c in contract.columns):
            lines.append(f"{path}:{document.line(('columns',))}: columns: the name {PERIOD} is taken by the split by date")
    return lines


def _gather(paths: Sequence[Path], contract: Contract, findings: Findings) -> _Gathered:
    files: list[TableFile] = []
    unread: list[str] = []
    for path in paths:
        try:
            files.append(read_table(path))
        except BadInput as error:
            unread += error.lines
    findings.add_lines("problems in reading", unread)
    _check_headers(files, contract, findings)
    site_column = contract.named("site")
    empty = [f"{f.path}: an empty hospital: there are no rows in it" for f in files if not f.table.num_rows]
    findings.add_lines("empty hospitals", empty)
    parts, marks, sites = [], [], []
    for file in files:
        values, missing = _columns(file, contract, findings)
        parts.append(pd.DataFrame(values))
        marks.append(missing)
        named = values[site_column] if site_column else np.full(file.table.num_rows, file.path.stem, dtype=object)
        sites.append(named)
    lengths = [f.table.num_rows for f in files]
    gathered = _Gathered(
        frame=pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c.name: [] for c in contract.columns}),
        missing={c.name: np.concatenate([m[c.name] for m in marks]) for c in contract.columns} if marks else {},
        site=np.concatenate(sites) if sites else np.zeros(0, dtype=object),
        file=np.repeat(np.arange(len(files)), lengths),
        row=np.concatenate([np.arange(n) for n in lengths]) if lengths else np.zeros(0, dtype=np.intp),
        files=tuple(files),
    )
    _check_sites(gathered, site_column, findings)
    return gathered


def _columns(
    file: TableFile, contract: Contract, findings: Findings
) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, Bools]]:
    """Values and missing marks of the contract's columns; a column that is not there was reported and is all missing."""
    reader = Reader(file, findings)
    values: dict[str, npt.NDArray[np.generic]] = {}
    missing: dict[str, Bools] = {}
    for column in contract.columns:
        if column.name in file.table.column_names:
            values[column.name], missing[column.name] = reader.read(column)
        else:
            values[column.name] = np.full(file.table.num_rows, None, dtype=object)
            missing[column.name] = np.zeros(file.table.num_rows, dtype=bool)  # reported once, not row by row
        if column.role in ("patient_id", "site", "time"):
            reader.missing(column.name, np.flatnonzero(missing[column.name]), f"each row needs its {column.role}")
    return values, missing


def _check_headers(files: Sequence[TableFile], contract: Contract, findings: Findings) -> None:
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


def _check_sites(gathered: _Gathered, site_column: str | None, findings: Findings) -> None:
    first: dict[str, int] = {}
    for i, name in enumerate(gathered.site):
        if name is not None:
            first.setdefault(name, i)
    bad = [i for name, i in first.items() if not _SITE_NAME.match(name)]
    findings.add(
        "names of hospitals",
        site_column or "",
        bad,
        lambda i: f"{gathered.where(i)}: hospital {gathered.site[i]!r}: must be letters, digits, - _ . (it names files)",
    )
    if site_column is None:
        stems = [f.path.stem for f in gathered.files]
        twice = [f for i, f in enumerate(gathered.files) if f.path.stem in stems[:i]]
        findings.add_lines("hospitals twice", [f"{f.path}: there is another file for hospital {f.path.stem}" for f in twice])


def _check_patients(gathered: _Gathered, contract: Contract, findings: Findings) -> None:
    """A patient is in one hospital, and of grain ``row`` in one row."""
    name = contract.named("patient_id")
    if name is None:
        return
    ids = gathered.frame[name].to_numpy()
    there = np.flatnonzero(~pd.isna(ids) & ~pd.isna(gathered.site))
    first: dict[str, int] = {}
    repeated, shared = {}, {}
    for i in there:
        before = first.setdefault(ids[i], i)
        if gathered.site[before] != gathered.site[i]:
            shared.setdefault((ids[i], gathered.site[i]), i)
        elif before != i:
            repeated[i] = before
    findings.add(
        "patients in two hospitals",
        name,
        list(shared.values()),
        lambda i: f"{gathered.where(i)}: {name}: hospitals {gathered.site[first[ids[i]]]} and {gathered.site[i]} have "
        f"the same patient (also {gathered.where(first[ids[i]])}); a patient must be in one hospital",
    )
    if contract.grain == "row":
        findings.add(
            "patients in two rows",
            name,
            list(repeated),
            lambda i: f"{gathered.where(i)}: {name}: the same patient as {gathered.where(repeated[i])}; "
            "grain row has one row per patient",
        )


def _check_hours(gathered: _Gathered, contract: Contract, findings: Findings) -> _Gathered:
    """Rows by hospital, patient and time; each hour of a stay is there once."""
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
            lambda i: f"{gathered.where(i)}: {time}: the patient's hour before is {hours[i - 1]:g} (got {hours[i]:g}); "
            "grain hour has one row for each hour",
        )
    else:
        findings.add(
            "rows that do not stand together",
            name or "",
            bad,
            lambda i: f"{gathered.where(i)}: {name}: the patient's rows do not stand together; "
            "without a column of role time they must, in order of time",
        )
    return gathered


def _stay_codes(gathered: _Gathered, name: str | None) -> npt.NDArray[np.intp]:
    """Number of each row's stay, in the order of first appearance."""
    keys = pd.MultiIndex.from_arrays([gathered.site.astype(str), gathered.frame[name].astype(str)])
    codes: npt.NDArray[np.intp] = pd.factorize(keys)[0]
    return codes


def _check_never_missing(gathered: _Gathered, contract: Contract, findings: Findings) -> None:
    """Columns that must not be missing have a value in each row; of grain ``hour``, once before the landmark."""
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
        findings.add(
            MISSING_VALUES,
            column.name,
            rows,
            lambda i, name=column.name: f"{gathered.where(i)}: {name}: is missing; the contract says missing: never",
        )


def _dates(texts: Objects) -> npt.NDArray[np.datetime64]:
    parsed = pd.to_datetime(pd.Series(texts, dtype=object), format="ISO8601", errors="coerce", utc=True)
    return parsed.dt.tz_localize(None).to_numpy()


def _period(gathered: _Gathered, contract: Contract, findings: Findings) -> Objects | None:
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


def _rows(
    gathered: _Gathered, contract: Contract, period: Objects | None, path: Path | Sequence[Path]
) -> tuple[dict[str, pd.DataFrame], Contract]:
    used = contract.model_copy(update={"columns": tuple(c for c in contract.columns if c.role != "ignored")})
    frame = gathered.frame[[c.name for c in used.columns]]
    if used.named("patient_id") is None:
        used, frame = _with_ids(used, frame, gathered)
    rows_of = {str(site): frame[gathered.site == site].reset_index(drop=True) for site in sorted(set(gathered.site))}
    periods = {site: period[gathered.site == site] for site in rows_of} if period is not None else {}
    outcome = used.outcome.name
    if used.grain == "row":
        row = row_contract(used)
        rows_of = {s: r[[c.name for c in row.columns]].astype({outcome: np.int8}) for s, r in rows_of.items()}
        return {s: r.assign(**({PERIOD: periods[s]} if periods else {})) for s, r in rows_of.items()}, row
    name = used.named("patient_id")
    landmarks = {site: landmark_rows(hours, used) for site, hours in rows_of.items()}
    for site in periods:
        first = dict(zip(reversed(rows_of[site][name]), reversed(periods[site]), strict=True))
        landmarks[site] = landmarks[site].assign(**{PERIOD: [first[i] for i in landmarks[site][name]]})
    empty = [site for site, rows in landmarks.items() if rows.empty]
    if empty:
        why = f"no stay is longer than {used.landmark_hours} h with a label that is still 0"
        where = path if isinstance(path, Path) else path[0]
        raise BadInput([f"{where}: an empty hospital: {site}: {why}" for site in empty])
    return landmarks, row_contract(used)


def _with_ids(contract: Contract, frame: pd.DataFrame, gathered: _Gathered) -> tuple[Contract, pd.DataFrame]:
    """Add an id of hospital and row where the table has none."""
    taken = {c.name for c in contract.columns}
    name = next(n for n in ("patient_id", "patient_id_", "row_id") if n not in taken)
    column = Column(name=name, role="patient_id", kind="category")
    number = pd.Series(gathered.site).groupby(gathered.site).cumcount() + 1
    ids = [f"{site}-{n}" for site, n in zip(gathered.site, number, strict=True)]
    frame = frame.assign(**{name: np.array(ids, dtype=object)})[[name, *frame.columns]]
    return contract.model_copy(update={"columns": (column, *contract.columns)}), frame
