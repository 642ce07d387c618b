"""New patients, whose outcome nobody knows yet: the features of a table, checked against its contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from pettoolkit.cohort.columns import Findings, Reader
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.tablefile import read_table
from pettoolkit.cohort.tables import DEFAULT_CONTRACT, load_tables
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.cohort.yamlmessages import did_you_mean
from pettoolkit.errors import BadInput


def new_patients(file: Path, contract: str | None = None) -> tuple[pd.DataFrame, Contract]:
    """Read patients to be scored.

    Parameters
    ----------
    file
        CSV or Parquet. With a contract of grain ``row`` the outcome may be missing, and is not read; of grain ``hour``
        the landmark is applied, for which the label of each hour is needed.
    contract
        YAML file, or the name of a packaged contract; ``contract.yaml`` beside the table if not given.

    Returns
    -------
    rows, contract
        One row per patient, and the row contract.

    Raises
    ------
    BadInput
        With all findings.
    """
    described = _contract(file, contract)
    if described.grain == "hour":
        path = Path(contract) if contract is not None else None
        rows_of, row = load_tables(file, path)
        return pd.concat(rows_of.values(), ignore_index=True), row
    return _features(file, described), described


def _contract(file: Path, contract: str | None) -> Contract:
    if contract is None:
        beside = file.parent / DEFAULT_CONTRACT
        if not beside.exists():
            raise BadInput(f"{beside}: there is no contract; name it with --contract")
        return parse(Contract, beside)
    return parse(Contract, Path(contract)) if Path(contract).exists() else builtin_contract(contract)


def _features(file: Path, contract: Contract) -> pd.DataFrame:
    table = read_table(file)
    findings = Findings()
    reader = Reader(table, findings)
    names = table.table.column_names
    wanted = [c for c in contract.columns if c.role == "feature" or (c.role == "patient_id" and c.name in names)]
    absent = [c.name for c in wanted if c.name not in names]
    hints = {name: did_you_mean(name, names) or "the model needs it" for name in absent}
    findings.add_lines(
        "problems with columns", [f"{table.header}: {n}: the column is missing ({hint})" for n, hint in hints.items()]
    )
    values = {}
    for column in wanted:
        if column.name in absent:
            continue
        values[column.name], missing = reader.read(column)
        if column.role == "feature" and column.missing == "never":
            reader.missing(column.name, np.flatnonzero(missing), "the contract says that it is never missing")
    lines = findings.lines()
    if lines:
        raise BadInput(lines)
    return pd.DataFrame(values)
