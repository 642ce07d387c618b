"""The table that a cell makes, kept among its artifacts and marked: released, or internal and why."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping

from pettoolkit.records import Guarantee, Json, NotMeasured, to_json

TABLE, MARK = "table/rows.parquet", "table/mark.json"
"""Artifacts of a cell."""

KEY = b"pettoolkit"
"""Key of the Parquet file's own metadata with the mark, so that a copied file still says what it is."""


def table_files(
    table: Mapping[str, Json] | None, guarantee: Guarantee | NotMeasured, responsible: Mapping[str, str | None]
) -> dict[str, bytes]:
    """Artifacts for the table of an outcome; none where it has no table.

    Parameters
    ----------
    table
        :attr:`pettoolkit.records.Outcome.released_table`.
    responsible
        ``name`` and ``email`` of whoever answers for a release, as far as the experiment file names them.
    """
    import pyarrow.parquet as pq

    if table is None:
        return {}
    mark = mark_of(table, guarantee, responsible)
    rows = pq.read_table(io.BytesIO(base64.b64decode(table["parquet"])))
    text = json.dumps(mark, indent=1, ensure_ascii=False).encode()
    buffer = io.BytesIO()
    pq.write_table(rows.replace_schema_metadata({**(rows.schema.metadata or {}), KEY: text}), buffer)
    return {TABLE: buffer.getvalue(), MARK: text}


def mark_of(
    table: Mapping[str, Json], guarantee: Guarantee | NotMeasured, responsible: Mapping[str, str | None]
) -> dict[str, Json]:
    """Say whether a table may leave: with a guarantee for patients and somebody who answers for it, else not."""
    named = {key: value for key, value in responsible.items() if value}
    private = bool(table["guaranteed"]) and isinstance(guarantee, Guarantee)
    if not private:
        why = "its rows have no guarantee for patients; what they reveal has to be measured and judged first"
    elif isinstance(guarantee, Guarantee) and guarantee.simulated_noise:
        why = "its noise comes from a seed (simulation): whoever knows the seed can take it off"
    elif set(named) != {"name", "email"}:
        why = "nobody is named who answers for its release (responsible: {name: .., email: ..})"
    else:
        why = ""
    return {
        "schema_version": 1,
        "status": "internal" if why else "released",
        "why": why or "guaranteed for patients, and somebody answers for it",
        "kind": table["kind"],
        "rows": table["rows"],
        "columns": table["columns"],
        "guarantee": to_json(guarantee),
        "responsible": named,
    }
