"""What hospitals answered in a run that is not finished: a file from which the same run goes on after a kill.

A run that starts again asks the same questions. Those that were answered are answered from the file, so that strategy,
momenta, best round and meter come to where they were, bit for bit; hospitals are asked from the first open question on.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from flwr.app import RecordDict

from pettoolkit.federation import wire

_SIZE, _KEY, _CHECK = 8, 32, 16


class Journal:
    """Answers by hospital and question, in one append-only file.

    A last entry that was cut off by a kill, and whatever follows a damaged one, is dropped.

    Parameters
    ----------
    path
        Made readable by its owner alone, with its folder, if it is not there: it holds what the coordinator saw.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[bytes, bytes] = {}
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.touch(mode=0o600)
        good = self._read(path.read_bytes())
        with open(path, "r+b") as file:
            file.truncate(good)

    def __len__(self) -> int:
        return len(self._known)

    def answer(self, site: str, question: RecordDict) -> RecordDict | None:
        """What a hospital answered to exactly this question, or None."""
        found = self._known.get(_key(site, question))
        return None if found is None else wire.load(found)

    def keep(self, site: str, question: RecordDict, answer: RecordDict) -> None:
        """Write an answer down."""
        key, data = _key(site, question), wire.dump(answer)
        if key in self._known:
            return
        self._known[key] = data
        entry = key + data
        with open(self._path, "ab") as file:
            file.write(len(entry).to_bytes(_SIZE, "little") + _check(entry) + entry)

    def _read(self, data: bytes) -> int:
        """Take in all whole entries; return where the last of them ends."""
        at = 0
        while at + _SIZE + _CHECK <= len(data):
            size = int.from_bytes(data[at : at + _SIZE], "little")
            begins = at + _SIZE + _CHECK
            entry = data[begins : begins + size]
            if size < _KEY or len(entry) < size or _check(entry) != data[at + _SIZE : begins]:
                break
            self._known[entry[:_KEY]] = entry[_KEY:]
            at = begins + size
        return at


def _key(site: str, question: RecordDict) -> bytes:
    return hashlib.sha256(f"{len(site)} {site} {wire.digest(question)}".encode()).digest()


def _check(entry: bytes) -> bytes:
    return hashlib.sha256(entry).digest()[:_CHECK]
