"""One CSV or Parquet file as it is: nothing guessed, nothing repaired, and each row knows where it stands."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pettoolkit.errors import BadInput

Table = Any  # pyarrow.Table; pyarrow is imported where it is used

ENDINGS = (".csv", ".parquet")
_LISTED = 20


@dataclass(frozen=True)
class TableFile:
    """A table; of a CSV file all columns are text. ``lined``: each row is one line of the file."""

    path: Path
    table: Table
    lined: bool = False

    @property
    def header(self) -> str:
        """Where the names of the columns stand."""
        return f"{self.path}:1" if self.path.suffix == ".csv" else str(self.path)

    def where(self, row: int) -> str:
        """Where a row (from 0) stands: ``file:line``, or ``file: row n`` (from 1) where rows are not lines."""
        return f"{self.path}:{row + 2}" if self.lined else f"{self.path}: row {row + 1}"


def table_files(path: Path | Sequence[Path]) -> list[Path]:
    """List the tables in a folder, sorted by name; a file, or a sequence of files, stands for itself.

    Raises
    ------
    BadInput
        If something is not there, a folder has no tables, or a file is neither CSV nor Parquet.
    """
    if not isinstance(path, Path):
        return [file for one in path for file in table_files(one)]
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix in ENDINGS and p.is_file())
        if not files:
            raise BadInput(f"{path}: has no tables; looked for one .csv or .parquet file per hospital")
        return files
    if not path.exists():
        raise BadInput(f"{path}: there is no such file or folder; looked for .csv or .parquet tables (sites.path)")
    if path.suffix not in ENDINGS:
        raise BadInput(f"{path}: must be a .csv or .parquet file")
    return [path]


def sha256_of(path: Path) -> str:
    """Hash of a file's bytes, as ``sha256sum`` prints it: 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path) -> TableFile:
    """Read one file.

    Raises
    ------
    BadInput
        If it cannot be read, columns have no or the same name, or lines have too few or too many values.
    """
    try:
        file = _read_csv(path) if path.suffix == ".csv" else _read_parquet(path)
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
    names = file.table.column_names
    bad = [f"{file.header}: column {i + 1} has no name" for i, name in enumerate(names) if not name.strip()]
    twice = sorted({n for n in names if names.count(n) > 1})
    bad += [f"{file.header}: {name}: the column is there twice" for name in twice]
    if bad:
        raise BadInput(bad)
    return file


def _read_parquet(path: Path) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read()
    except pa.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    names = table.column_names
    unnamed = [n for n in names if n.startswith("__index_level_")]  # left over from pandas, not a column of the data
    return TableFile(path, table.drop_columns(unnamed))


def _read_csv(path: Path) -> TableFile:
    import pyarrow as pa
    import pyarrow.csv as pc

    try:
        text = path.read_bytes().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if not text:
        raise BadInput(f"{path}: an empty hospital: the file is empty")
    header = text.partition("\n")[0]
    names = [name.strip() for name in next(csv.reader([header]))]
    if len(names) == 1 and any(mark in header for mark in ";\t"):
        raise BadInput(f"{path}:1: the columns must be separated by commas (got {header[:60]!r})")
    texts = dict.fromkeys(names, pa.string())
    wrong: list[Any] = []

    def keep(row: Any) -> str:
        wrong.append(row)
        return "skip"

    body = text.partition("\n")[2]
    if not body:
        return TableFile(path, pa.Table.from_arrays([pa.array([], pa.string())] * len(names), names=names), lined=True)
    try:
        table = pc.read_csv(
            io.BytesIO(body.encode()),
            read_options=pc.ReadOptions(use_threads=False, column_names=names, block_size=1 << 24),
            parse_options=pc.ParseOptions(newlines_in_values=True, ignore_empty_lines=False, invalid_row_handler=keep),
            convert_options=pc.ConvertOptions(column_types=texts, strings_can_be_null=False),
        )
    except pa.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as CSV ({str(error).splitlines()[0]})") from None
    if wrong:
        lines = [f"{path}:{r.number + 1}: {r.actual_columns} values for {len(names)} columns" for r in wrong[:_LISTED]]
        rest = len(wrong) - len(lines)
        raise BadInput([*lines, f"{path}: ... and {rest} more such lines"] if rest else lines)
    return TableFile(path, table, lined=table.num_rows == body.count("\n") + 1)
