"""A cohort: the hospitals of an experiment, whatever their source; a patient's rows are all in one hospital."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.landmark import landmark_rows, row_contract
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.cohort.yamlmessages import did_you_mean
from pettoolkit.errors import BadInput

SOURCES = ("simulated", "physionet2019", "tables")
PARTITIONS = ("hospital", "unit")
_LISTED = 20

_Loaded = tuple[dict[str, pd.DataFrame], Contract, str]
"""Rows of each hospital, their contract, and where they come from."""


@dataclass(frozen=True)
class Hospital:
    """One site's table.

    ``rows`` has the columns of the cohort's contract in natural units, NaN (numbers) or ``None`` (categories) where
    missing, one row per patient (``tables`` of grain ``row`` may have several); where the contract has a ``split``,
    also a column ``period`` (``train`` or ``test``).
    ``digest`` is :func:`table_digest` of the rows.
    """

    name: str
    rows: pd.DataFrame = field(repr=False)
    digest: str

    @classmethod
    def of(cls, name: str, rows: pd.DataFrame) -> Hospital:
        """Make a hospital from its rows."""
        return cls(name, rows, table_digest(rows))


@dataclass(frozen=True)
class Cohort:
    """Hospitals under one row contract (the full feature set), sorted by name.

    ``origin`` is ``simulated``, ``real (PhysioNet/CinC 2019)`` or ``tables``.
    """

    contract: Contract
    hospitals: Mapping[str, Hospital]
    origin: str


def load_cohort(
    source: str,
    path: Path,
    partition: str = "hospital",
    *,
    contract: Path | None = None,
    stays: int | None = None,
    include: Sequence[str] = (),
) -> Cohort:
    """Load the hospitals of an experiment.

    Parameters
    ----------
    source
        ``simulated`` (``path``: folder of site profiles), ``physionet2019`` or ``tables``.
    partition
        ``hospital``, or for ``physionet2019`` also ``unit`` (six natural sites).
    contract
        YAML contract; for ``tables`` it defaults to ``contract.yaml`` beside the data, else to the package's own.
    stays
        Simulated: stays drawn per hospital, before the landmark. Otherwise: at most so many patients per
        hospital, with all of their rows, chosen by a hash of the patient id.
    include
        Names of the hospitals to keep; all if empty.

    Raises
    ------
    BadInput
        With all findings: nothing at ``path``, an empty hospital, a patient in two hospitals, an unknown name.
    """
    bad = [f"sites.source: must be one of {', '.join(SOURCES)} (got {source})"] if source not in SOURCES else []
    allowed = PARTITIONS if source == "physionet2019" else PARTITIONS[:1]
    if partition not in allowed:
        bad.append(f"sites.partition: must be {' or '.join(allowed)} for source {source} (got {partition})")
    if bad:
        raise BadInput(bad)
    rows_of, row, origin = _LOADERS[source](Path(path), partition, contract, stays)
    rows_of = _included(rows_of, include, path)
    if source != "simulated" and stays is not None:
        rows_of = {name: _sample(rows, row, stays) for name, rows in rows_of.items()}
    bad = [f"{path}: hospital {n}: is empty: no patient qualifies" for n, rows in sorted(rows_of.items()) if rows.empty]
    bad += shared_patients(rows_of, row)
    if bad:
        raise BadInput(bad)
    return Cohort(row, {name: Hospital.of(name, rows_of[name]) for name in sorted(rows_of)}, origin)


def table_digest(rows: pd.DataFrame) -> str:
    """SHA-256 (hex) over the columns' names, types and values, in order; the same on every platform."""
    digest = hashlib.sha256(str(len(rows)).encode())
    for name in rows.columns:
        kind, data = _bytes(rows[name])
        digest.update(f"\x1e{name}\x1f{kind}\x1f{len(data)}\x1f".encode())
        digest.update(data)
    return digest.hexdigest()


def shared_patients(rows_of: Mapping[str, pd.DataFrame], contract: Contract) -> list[str]:
    """List hospitals that share patients; ids are compared as text, hashed."""
    name = contract.named("patient_id")
    if name is None:
        return []
    seen: dict[bytes, str] = {}
    counts: dict[tuple[str, str], int] = {}
    for site in sorted(rows_of):
        for identifier in rows_of[site][name].astype(str).unique():
            key = _hashed(identifier)
            if key in seen:
                pair = (seen[key], site)
                counts[pair] = counts.get(pair, 0) + 1
            seen.setdefault(key, site)
    lines = []
    for (first, second), n in sorted(counts.items()):
        patients = "patient" if n == 1 else "patients"
        lines.append(f"{name}: hospitals {first} and {second} share {n} {patients}; a patient must be in one hospital")
    return lines[:_LISTED]


def _simulated(path: Path, _: str, contract: Path | None, stays: int | None) -> _Loaded:
    from pettoolkit.cohort.simulator import simulated_sites

    if not path.exists():
        raise BadInput(f"{path}: there is no such folder; looked for profiles of simulated hospitals (sites.path)")
    hourly = parse(Contract, contract) if contract else builtin_contract()
    hours = simulated_sites(path, stays=stays)
    return {name: landmark_rows(h, hourly) for name, h in hours.items()}, row_contract(hourly), "simulated"


def _physionet2019(path: Path, partition: str, contract: Path | None, _: int | None) -> _Loaded:
    from pettoolkit.cohort.physionet2019 import load_physionet2019

    hourly = parse(Contract, contract) if contract else builtin_contract()
    rows_of = load_physionet2019(path, "unit" if partition == "unit" else "hospital", hourly)
    return rows_of, row_contract(hourly), "real (PhysioNet/CinC 2019)"


def _tables(path: Path, _: str, contract: Path | None, __: int | None) -> _Loaded:
    from pettoolkit.cohort.tables import load_tables

    return (*load_tables(path, contract), "tables")


_LOADERS = {"simulated": _simulated, "physionet2019": _physionet2019, "tables": _tables}


def _included(rows_of: dict[str, pd.DataFrame], include: Sequence[str], path: Path) -> dict[str, pd.DataFrame]:
    unknown = [name for name in include if name not in rows_of]
    if unknown:
        known = f"the hospitals there are {', '.join(sorted(rows_of))}"
        raise BadInput([f"{path}: there is no hospital {n}; {did_you_mean(n, rows_of) or known}" for n in unknown])
    return {name: rows for name, rows in rows_of.items() if not include or name in include}


def _sample(rows: pd.DataFrame, contract: Contract, stays: int) -> pd.DataFrame:
    """All rows of at most ``stays`` patients, in their order; which patients does not depend on that order."""
    name = contract.named("patient_id")
    whose = (rows[name] if name else rows.index.to_series()).astype(str)
    chosen = sorted(whose.unique(), key=_hashed)[:stays]
    return rows[whose.isin(chosen)].reset_index(drop=True)


def _hashed(identifier: object) -> bytes:
    return hashlib.sha256(str(identifier).encode()).digest()


def _bytes(column: pd.Series) -> tuple[str, bytes]:
    values = column.to_numpy()
    if values.dtype.kind == "f":
        values = np.where(np.isnan(values), values.dtype.type(np.nan), values)  # one NaN of the many
    if values.dtype.kind in "fiub":
        return values.dtype.name, np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")).tobytes()
    texts = ["" if missing else f"={value}" for value, missing in zip(values, pd.isna(values), strict=True)]
    return "text", b"".join(len(b := t.encode()).to_bytes(4, "little") + b for t in texts)
