"""A first contract for somebody's table, with everything that must be public left blank.

Only the names and types of the columns are used. Bounds and levels taken from the data would be statements
about its patients, and would break differential privacy; people fill them in from what is publicly known.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from pettoolkit.errors import BadInput

_ROLES = {
    "patient_id": ("patient_id", "patientid", "patient", "subject_id", "subject", "stay_id", "person_id", "id"),
    "site": ("site", "hospital", "hospital_id", "hospitalid", "centre", "center"),
    "outcome": ("outcome", "label", "target", "y", "sepsislabel"),
    "time": ("hour", "iculos"),
}
"""Roles guessed from names, in lower case; the first column that fits gets it."""

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_WORDS = ("null", "true", "false", "nan", "inf")

_HEAD = """\
# Draft of a contract for {file}. Fill in what is blank from public knowledge (textbooks, registries, published
# figures), never from these data: a bound taken from patients tells something about them.
# Then: pettoolkit sites check {file}
name: {name}
title: ""
source: ""
grain: {grain}  # row: one or more rows per patient; hour: one row per patient and hour, with landmark_hours
prevalence:  # published share of patients with the outcome, if there is one
# split: {{by: a_date_column, cut: "2020-01-01"}}  # train before the date, test from it
columns:
"""
_NO_OUTCOME = "  # One column must have role outcome and kind binary (0 or 1); none was recognised by its name.\n"


def draft_contract(file: Path) -> str:
    """Draft the YAML contract of a CSV or Parquet file from its columns' names and types.

    Raises
    ------
    BadInput
        If the file cannot be read.
    """
    kinds = _kinds(file)
    roles = _roles(list(kinds))
    hourly = {"patient_id", "time"} <= set(roles.values())
    head = _HEAD.format(file=file.name, name=_quoted(file.stem), grain="hour" if hourly else "row")
    missing = "" if "outcome" in roles.values() else _NO_OUTCOME
    return head + missing + "".join(_column(name, kind, roles.get(name, "feature")) for name, kind in kinds.items())


def _kinds(file: Path) -> dict[str, str]:
    """Guess ``number``, ``binary``, ``category`` or ``date`` for each column, by its type alone."""
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(file) if file.suffix == ".parquet" else pc.read_csv(file).schema
    except FileNotFoundError:
        raise BadInput(f"{file}: there is no such file") from None
    except (pa.ArrowException, OSError) as error:
        raise BadInput(f"{file}: cannot be read as CSV or Parquet ({str(error).splitlines()[0]})") from None
    return {f.name.strip(): _kind(f.type) for f in schema}


def _kind(kind: Any) -> str:
    import pyarrow as pa

    if pa.types.is_boolean(kind):
        return "binary"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "date"
    numeric = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
    return "number" if numeric or pa.types.is_null(kind) else "category"


def _roles(names: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, known in _ROLES.items():
        name = next((n for k in known for n in names if n.lower() == k and n not in found), None)
        if name is not None:
            found[name] = role
    return found


def _column(name: str, kind: str, role: str) -> str:
    text = f"  - name: {_quoted(name)}\n"
    if role == "outcome":
        return f"{text}    role: outcome\n    kind: binary  # 0 or 1\n"
    if role != "feature":
        return f"{text}    role: {role}\n"
    if kind == "date":
        return f"{text}    role: date\n"
    if kind == "category":
        return f"{text}    kind: category\n    levels: []  # public levels, fill in, like [a, b]; or role: ignored\n"
    if kind == "binary":
        return f"{text}    kind: binary\n"
    return (
        f'{text}    kind: number\n    unit: ""\n    low:  # public bound, fill in\n    high:  # public bound, fill in\n'
    )


def _quoted(name: str) -> str:
    plain = _PLAIN.match(name) and name.lower() not in _WORDS
    return name if plain else json.dumps(name, ensure_ascii=False)
