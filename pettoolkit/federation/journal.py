"""What hospitals answered in a run that is not finished: a file from which the same run goes on after a kill.

A run that starts again asks the same questions. Those that were answered are answered from the file, so that strategy,
momenta, best round and meter come to where they were, bit for bit; hospitals are asked from the first open question on.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

from flwr.app import RecordDict

from pettoolkit.federation import wire

_SIZE, _KEY, _CHECK = 8, 32, 16


class Journal:
    """Answers by hospital and question, in one append-only file. Memory holds where they are, not what they say.

    A last entry that was cut off by a kill, and whatever follows a damaged one, is dropped. Checksums find
    accidents; who may write to the file can write what he likes, as in the folder of results, and what is read stands
    the checks of any reply.

    Parameters
    ----------
    path
        Made readable by its owner alone, with its folder, if it is not there: it holds what the coordinator saw.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[bytes, tuple[int, int]] = {}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        with open(path, "r+b") as file:
            file.truncate(self._read(file))

    def __len__(self) -> int:
        return len(self._places)

    def answer(self, site: str, question: RecordDict) -> RecordDict | None:
        """What a hospital answered to exactly this question, or None."""
        place = self._places.get(_key(site, question))
        if place is None:
            return None
        begins, size = place
        with open(self._path, "rb") as file:
            file.seek(begins)
            return wire.load(file.read(size))

    def keep(self, site: str, question: RecordDict, answer: RecordDict) -> None:
        """Write an answer down."""
        key, data = _key(site, question), wire.dump(answer)
        if key in self._places:
            return
        entry = key + data
        with open(self._path, "ab") as file:
            file.write(len(entry).to_bytes(_SIZE, "little") + _check(entry) + entry)
            self._places[key] = (file.tell() - len(data), len(data))

    def _read(self, file: BinaryIO) -> int:
        """Find all whole entries; return where the last of them ends."""
        at, end = 0, os.fstat(file.fileno()).st_size
        while at + _SIZE + _CHECK <= end:
            head = file.read(_SIZE + _CHECK)
            size, begins = int.from_bytes(head[:_SIZE], "little"), at + _SIZE + _CHECK
            if not _KEY <= size <= end - begins:
                break
            entry = file.read(size)
            if _check(entry) != head[_SIZE:]:
                break
            self._places[entry[:_KEY]] = (begins + _KEY, size - _KEY)
            at = begins + size
        return at


def _key(site: str, question: RecordDict) -> bytes:
    return hashlib.sha256(f"{len(site)} {site} {wire.digest(question)}".encode()).digest()


def _check(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()[:_CHECK]
