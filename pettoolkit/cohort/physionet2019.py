"""The PhysioNet/CinC Challenge 2019: two real hospitals, or six natural sites (hospital x ICU unit).

Reads one Parquet file per hospital, or the original folders with one ``.psv`` file per patient. The data are
not part of this package; see https://physionet.org/content/challenge-2019/ (CC BY 4.0).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.contracts import builtin_contract
from pettoolkit.cohort.landmark import landmark_rows
from pettoolkit.errors import BadInput

Partition = Literal["hospital", "unit"]

HOSPITALS = ("A", "B")
FIRST_ID_OF_B = 100_000
"""Patient ids below are of hospital A, the others of hospital B (the challenge's own numbering)."""

_LOOKED_FOR = "hospital_A.parquet and hospital_B.parquet, or folders training_setA/ and training_setB/ with .psv files"
_LISTED = 20


def load_physionet2019(
    path: Path, partition: Partition = "hospital", contract: Contract | None = None
) -> dict[str, pd.DataFrame]:
    """Landmark rows of each hospital or natural site.

    Parameters
    ----------
    path
        Folder with ``hospital_A.parquet`` and ``hospital_B.parquet``, or with ``training_setA/`` and
        ``training_setB/`` (also inside a folder ``training/``, as PhysioNet's archive has them).
    partition
        ``hospital``: sites ``A`` and ``B``. ``unit``: ``A-micu``, ``A-sicu``, ``A-unknown`` and the same for B, by the
        unit in a stay's first hour; a unit without stays is left out.
    contract
        Contract of grain ``hour``; the package's own if not given.

    Raises
    ------
    BadInput
        If the folder or one of the hospitals is missing, or a file is not as the challenge published it.
    """
    contract = contract or builtin_contract()
    if partition == "unit" and not {"Unit1", "Unit2"} <= {c.name for c in contract.columns}:
        raise BadInput(f"contract {contract.name}: partition unit needs the columns Unit1 and Unit2")
    sites: dict[str, pd.DataFrame] = {}
    for hospital, source in _sources(Path(path)).items():
        rows = landmark_rows(_read(source, hospital, contract), contract)
        sites |= _by_unit(rows, hospital) if partition == "unit" else {hospital: rows}
    return sites


def _sources(path: Path) -> dict[str, Path]:
    """Parquet file or folder of .psv files of each hospital."""
    if not path.is_dir():
        raise BadInput(f"{path}: there is no such folder; looked for one with {_LOOKED_FOR} (sites.path)")
    found: dict[str, Path] = {}
    for hospital in HOSPITALS:
        folder = f"training_set{hospital}"
        candidates = (path / f"hospital_{hospital}.parquet", path / folder, path / "training" / folder)
        place = next((c for c in candidates if c.exists()), None)
        if place is not None:
            found[hospital] = place
    if not found:
        raise BadInput(f"{path}: has none of the data; looked for {_LOOKED_FOR}")
    missing = [h for h in HOSPITALS if h not in found]
    if missing:
        raise BadInput(f"{path}: has hospital {', '.join(found)}, no {', '.join(missing)}; looked for {_LOOKED_FOR}")
    return found


def _read(source: Path, hospital: str, contract: Contract) -> pd.DataFrame:
    hours = _read_psv(source, contract) if source.is_dir() else _read_parquet(source, contract)
    _check(hours, source, hospital, contract)
    return hours


def _read_parquet(file: Path, contract: Contract) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [c.name for c in contract.columns]
    try:
        have = pq.read_schema(file).names
        missing = [n for n in names if n not in have]
        if missing:
            raise BadInput(f"{file}: lacks the columns {', '.join(missing)}")
        table = pq.read_table(file, columns=names)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{file}: cannot be read as Parquet ({_first_line(error)})") from None
    texts = [f.name for f in table.schema if not (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))]
    if texts:
        raise BadInput(f"{file}: {', '.join(texts)}: must be numbers")
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _read_psv(folder: Path, contract: Contract) -> pd.DataFrame:
    """All patients of a folder; parsed in one go, which is ten times faster than file by file."""
    files = sorted(folder.glob("p*.psv"))
    if not files:
        raise BadInput(f"{folder}: an empty hospital: there are no files p*.psv in it")
    header, bodies, lengths, bad = b"", [], [], []
    for file in files:
        head, _, body = file.read_bytes().replace(b"\r\n", b"\n").partition(b"\n")
        header = header or head
        if head != header:
            bad.append(f"{file}:1: the columns are not those of {files[0].name}")
        if not file.stem[1:].isdigit():
            bad.append(f"{file}: the name must be p and the patient's number")
        body = body.rstrip(b"\n") + b"\n" if body.strip() else b""
        bodies.append(body)
        lengths.append(body.count(b"\n"))
    names = header.decode(errors="replace").split("|")
    missing = [c.name for c in contract.columns if c.role != "patient_id" and c.name not in names]
    if missing:
        bad.append(f"{files[0]}:1: lacks the columns {', '.join(missing)}")
    if bad:
        raise BadInput(_at_most(bad))
    hours = _parse(names, files, bodies, contract)
    identifier = contract.named("patient_id")
    assert identifier is not None  # the contract's validator saw to it
    hours[identifier] = np.repeat(np.array([int(f.stem[1:]) for f in files], dtype=np.int32), lengths)
    return hours[[c.name for c in contract.columns]]


def _parse(names: Sequence[str], files: Sequence[Path], bodies: Sequence[bytes], contract: Contract) -> pd.DataFrame:
    import pyarrow as pa

    try:
        return _parse_text(names, b"".join(bodies), contract)
    except pa.ArrowInvalid:
        bad = []
        for file, body in zip(files, bodies, strict=True):
            try:
                _parse_text(names, body, contract)
            except pa.ArrowInvalid as error:
                bad.append(f"{file}: {_first_line(error)}")
        raise BadInput(_at_most(bad)) from None


def _parse_text(names: Sequence[str], text: bytes, contract: Contract) -> pd.DataFrame:
    """Parse ``|``-separated lines; float32 and small integers, as the Parquet files have them."""
    import pyarrow as pa
    import pyarrow.csv as pc

    whole = {contract.outcome.name: pa.int8(), contract.named("time"): pa.int16(), "Gender": pa.int8()}
    kept = [c.name for c in contract.columns if c.role != "patient_id"]
    table = pc.read_csv(
        io.BytesIO(text),
        read_options=pc.ReadOptions(column_names=list(names)),
        parse_options=pc.ParseOptions(delimiter="|", quote_char=False),
        convert_options=pc.ConvertOptions(
            column_types={n: whole.get(n, pa.float32()) for n in names}, include_columns=kept, null_values=["NaN", ""]
        ),
    )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def _check(hours: pd.DataFrame, source: Path, hospital: str, contract: Contract) -> None:
    if hours.empty:
        raise BadInput(f"{source}: an empty hospital: there are no rows in it")
    ids = hours[contract.named("patient_id")].to_numpy()
    bad = []
    other = ids >= FIRST_ID_OF_B if hospital == "A" else ids < FIRST_ID_OF_B
    if other.any():
        bad.append(f"{source}: has {len(np.unique(ids[other]))} patients whose ids are not of hospital {hospital}")
    if 1 + np.count_nonzero(ids[1:] != ids[:-1]) != len(np.unique(ids)):
        bad.append(f"{source}: the rows of a patient must stand together, in order of time")
    label = contract.outcome.name
    if not hours[label].isin((0, 1)).all():
        bad.append(f"{source}: {label}: must be 0 or 1")
    if bad:
        raise BadInput(bad)


def _by_unit(rows: pd.DataFrame, hospital: str) -> dict[str, pd.DataFrame]:
    unit = np.select([rows["Unit1"] == 1, rows["Unit2"] == 1], ["micu", "sicu"], "unknown")
    units = ((name, rows[unit == name].reset_index(drop=True)) for name in ("micu", "sicu", "unknown"))
    return {f"{hospital}-{name}": part for name, part in units if len(part)}


def _at_most(lines: Sequence[str]) -> list[str]:
    rest = len(lines) - _LISTED
    return [*lines[:_LISTED], f"... and {rest} more"] if rest > 0 else list(lines)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]
