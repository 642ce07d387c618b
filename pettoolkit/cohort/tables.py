"""Anyone's own tables: CSV or Parquet with a YAML contract, one file per hospital or one with a site column.

Nothing is repaired. Whatever does not fit the contract is named with its file, row and column, all of it at
once, and the table is then refused: a value that was silently clipped or dropped would be a result nobody asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.columns import Bools, Findings, Objects, Reader
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.tablechecks import (
    PERIOD,
    Gathered,
    check_headers,
    check_hours,
    check_never_missing,
    check_patients,
    check_sites,
    contract_findings,
    period_of,
)
from pettoolkit.cohort.tablefile import TableFile, read_table, table_files
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput

DEFAULT_CONTRACT = "contract.yaml"


def load_tables(path: Path | Sequence[Path], contract: Path | None = None) -> tuple[dict[str, pd.DataFrame], Contract]:
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
        Hospital to rows (of grain ``hour`` one per patient, after the landmark; of grain ``row`` as many per patient as
        the table has), with a column :data:`PERIOD` where the contract has a ``split``. Numbers are float64, the
        outcome int8, everything else text. A table without a patient id gets none: nobody knows then whether two
        rows are the same patient's, and differential privacy is refused.

    Raises
    ------
    BadInput
        With all findings, at most twenty of each kind and the number of the others.
    """
    contract_path = contract or _contract_beside(path)
    described = parse(Contract, contract_path)
    findings = Findings()
    findings.add_lines("problems in the contract", contract_findings(described, contract_path))
    gathered = _gather(table_files(path), described, findings)
    check_patients(gathered, described, findings)
    if described.grain == "hour":
        gathered = check_hours(gathered, described, findings)
    check_never_missing(gathered, described, findings)
    cut = period_of(gathered, described, findings)
    lines = findings.lines()
    if lines:
        raise BadInput(lines)
    return _rows(gathered, described, cut, path)


def resolved(contract: Contract) -> Contract:
    """The row contract of tables that follow ``contract``, which needs no table: :func:`load_tables` gives the same."""
    used = _used(contract)
    if used.grain == "hour":
        return row_contract(used)
    name = used.outcome.name
    labelled = used.outcome.model_copy(update={"kind": "binary", "low": None, "high": None})
    return used.model_copy(update={"columns": tuple(labelled if c.name == name else c for c in used.columns)})


def check_tables(contract_path: Path, data_path: Path | Sequence[Path]) -> list[str]:
    """List all that :func:`load_tables` would refuse; empty if the tables are fine."""
    try:
        load_tables(data_path, contract_path)
    except BadInput as error:
        return list(error.lines)
    return []


def _used(contract: Contract) -> Contract:
    return contract.model_copy(update={"columns": tuple(c for c in contract.columns if c.role != "ignored")})


def _contract_beside(path: Path | Sequence[Path]) -> Path:
    first = path if isinstance(path, Path) else path[0]
    beside = (first if first.is_dir() else first.parent) / DEFAULT_CONTRACT
    if not first.exists():
        raise BadInput(f"{first}: there is no such file or folder; looked for .csv or .parquet tables (sites.path)")
    if not beside.exists():
        raise BadInput(f"{beside}: there is no contract; `pettoolkit sites init FILE` drafts one (sites.contract)")
    return beside


def _gather(paths: Sequence[Path], contract: Contract, findings: Findings) -> Gathered:
    files: list[TableFile] = []
    unread: list[str] = []
    for path in paths:
        try:
            files.append(read_table(path))
        except BadInput as error:
            unread += error.lines
    findings.add_lines("problems in reading", unread)
    check_headers(files, contract, findings)
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
    gathered = Gathered(
        frame=pd.concat(parts, ignore_index=True) if parts else pd.DataFrame({c.name: [] for c in contract.columns}),
        missing={c.name: np.concatenate([m[c.name] for m in marks]) for c in contract.columns} if marks else {},
        site=np.concatenate(sites) if sites else np.zeros(0, dtype=object),
        file=np.repeat(np.arange(len(files)), lengths),
        row=np.concatenate([np.arange(n) for n in lengths]) if lengths else np.zeros(0, dtype=np.intp),
        files=tuple(files),
    )
    check_sites(gathered, site_column, findings)
    return gathered


def _columns(
    file: TableFile, contract: Contract, findings: Findings
) -> tuple[dict[str, npt.NDArray[np.generic]], dict[str, Bools]]:
    """Values and missing marks of the contract's columns; a column that is not there is all missing."""
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


def _rows(
    gathered: Gathered, contract: Contract, period: Objects | None, path: Path | Sequence[Path]
) -> tuple[dict[str, pd.DataFrame], Contract]:
    used = _used(contract)
    frame = gathered.frame[[c.name for c in used.columns]]
    rows_of = {str(site): frame[gathered.site == site].reset_index(drop=True) for site in sorted(set(gathered.site))}
    periods = {site: period[gathered.site == site] for site in rows_of} if period is not None else {}
    outcome = used.outcome.name
    if used.grain == "row":
        row = resolved(contract)
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
    return landmarks, resolved(contract)
