"""The file of a ledger: appended to, on the disk before anything leaves, safe after a crash and between processes.

A journal is a header and records, one line each: a checksum, a space, JSON. The checksum (SHA-256, cut to 64 bits) is
taken over the line and the checksum before it, so that a record that was changed, moved or taken out shows.

What a crash can leave is known, since the header comes into being with the file (written beside, flushed, renamed) and
each record is appended and flushed before its answer leaves: either all of a record, or a beginning of it without the
end of the line. Such a beginning is dropped: its answer never left. Anything else that is wrong is no crash, and
nothing is answered from it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

from pettoolkit.errors import Refused
from pettoolkit.records import Json

T = TypeVar("T")

Record = dict[str, Json]
Contents = tuple[Record, Sequence[Record]]
"""Header and records."""

VERSION = 2
"""Version of the written form."""

_SUM = 16
"""Hexadecimal digits of a checksum."""


class Journal(Generic[T]):
    """An append-only file of records.

    Parameters
    ----------
    path
        Where it is, or will be at the first record.
    header
        What a new file begins with, beside its version; ``ledger`` says which kind it is.
    decode
        Makes of a record what the ledger remembers; raises ValueError, KeyError or TypeError if it is none.
    earlier
        Reads the one JSON object that version 1 was.
    """

    def __init__(
        self, path: Path, header: Record, decode: Callable[[Record], T], earlier: Callable[[Record], Contents]
    ) -> None:
        self.path = path
        self._header: Record = {"version": VERSION, **header}
        self._decode, self._earlier = decode, earlier
        self._end = 0
        self._sum = b""

    @contextlib.contextmanager
    def locked(self) -> Iterator[tuple[Record, list[T]]]:
        """Hold the file against other processes; gives its header, and the records since this was last called.

        Raises
        ------
        Refused
            If the file is damaged, shorter than it was, or of another version.
        """
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with FileLock(f"{self.path}.lock"):
            news = self._news()
            yield self._header, news

    def append(self, record: Record) -> None:
        """Add a record, flushed to the disk before this returns; only while :meth:`locked`.

        Raises
        ------
        Refused
            If it can't be written; it is then not in the file.
        """
        with self._writing():
            if not self._end:
                self._replace([self._header])
            line, checksum = _line(self._sum, record)
            try:
                with self.path.open("ab") as file:
                    _flush(file, line)
            except OSError:
                os.truncate(self.path, self._end)
                raise
            self._end, self._sum = self._end + len(line), checksum

    def _news(self) -> list[T]:
        """Read what was appended since the last look, and cut off what a crash left of a last record."""
        data = self._unread()
        first = not self._end
        if data is None:
            return []
        if first and data[:1] == b"{":
            return self._upgraded(data)
        *lines, torn = data.split(b"\n")
        if first and not lines:
            raise self._unusable("has no header")
        checksum, records = self._sum, []
        for line in lines:
            record, checksum = self._checked(checksum, line)
            records.append(record)
        header = records.pop(0) if first else self._header
        if header.get("version") != VERSION:
            raise self._other_version(header.get("version"))
        if header.get("ledger") != self._header["ledger"]:
            raise self._unusable(f"is not a {self._header['ledger']} ledger")
        decoded = [self._decoded(record) for record in records]
        end = self._end + len(data) - len(torn)
        if torn:
            with self._writing(), self.path.open("r+b") as file:
                file.truncate(end)
                os.fsync(file.fileno())
        # only now: had anything been wrong, the next look must find it again
        self._header, self._end, self._sum = header, end, checksum
        return decoded

    def _unread(self) -> bytes | None:
        """What comes after the last look; None if there is no file yet."""
        try:
            with self.path.open("rb") as file:
                if file.seek(0, os.SEEK_END) < self._end:
                    raise self._unusable("is shorter than it was")
                file.seek(self._end)
                return file.read()
        except FileNotFoundError:
            if self._end:
                raise self._unusable("is gone") from None
            return None

    def _checked(self, before: bytes, line: bytes) -> tuple[Record, bytes]:
        """The record of a line and its checksum."""
        checksum, text = line[:_SUM], line[_SUM + 1 :]
        if line != _framed(before, text)[0]:
            raise self._unusable("is damaged")
        return dict(json.loads(text)), checksum

    def _decoded(self, record: Record) -> T:
        try:
            return self._decode(record)
        except (ValueError, KeyError, TypeError, Refused):
            raise self._unusable("has a record that makes no sense") from None

    def _upgraded(self, data: bytes) -> list[T]:
        """Read version 1, which was one JSON object, and write it as a journal."""
        try:
            state = dict(json.loads(data))
            version = state["version"]
        except (ValueError, KeyError, TypeError):
            raise self._unusable("is damaged") from None
        if version != 1:
            raise self._other_version(version)
        try:
            header, records = self._earlier(state)
        except (ValueError, KeyError, TypeError):
            raise self._unusable("is damaged") from None
        decoded = [self._decoded(record) for record in records]
        header = {"version": VERSION, **header}
        with self._writing():
            self._replace([header, *records])
        self._header = header
        return decoded

    def _replace(self, records: Sequence[Record]) -> None:
        """Write a whole file beside and rename it: after a crash there is the old one or the new one."""
        lines, checksum = [], b""
        for record in records:
            line, checksum = _line(checksum, record)
            lines.append(line)
        text = b"".join(lines)
        partial = self.path.with_name(self.path.name + ".partial")
        with open(partial, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
            _flush(file, text)
        partial.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._end, self._sum = len(text), checksum

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise Refused(
                f"{self.path}: the privacy ledger can't be written ({error.strerror}), so nothing is answered; "
                "make room on the disk and ask again"
            ) from error

    def _unusable(self, how: str) -> Refused:
        return Refused(
            f"{self.path}: this privacy ledger {how} and can't be read; restore it from a backup "
            "(without it nobody knows what was spent, so nothing more is answered)"
        )

    def _other_version(self, version: Json) -> Refused:
        return Refused(
            f"{self.path}: this privacy ledger is of version {version} and can't be read by this program, "
            f"which knows 1 and {VERSION}"
        )


def _line(before: bytes, record: Record) -> tuple[bytes, bytes]:
    """A record's line with its end, and its checksum."""
    line, checksum = _framed(before, json.dumps(record, sort_keys=True).encode())
    return line + b"\n", checksum


def _framed(before: bytes, text: bytes) -> tuple[bytes, bytes]:
    checksum = hashlib.sha256(before + text).hexdigest()[:_SUM].encode()
    return checksum + b" " + text, checksum


def _flush(file: BinaryIO, data: bytes) -> None:
    file.write(data)
    file.flush()
    os.fsync(file.fileno())
