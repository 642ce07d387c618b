"""Files of a ledger: on the disk before anything leaves, whole after a crash, safe between processes."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from pettoolkit.errors import Refused
from pettoolkit.records import Json


class DurableFile:
    """One JSON file, replaced as a whole: after a crash it is the old one or the new one."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def locked(self) -> Iterator[dict[str, Json] | None]:
        """Hold the file against other processes; gives what is in it, or None if there is none yet."""
        from filelock import FileLock

        self.path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self.path}.lock"):
            yield self._read()

    def write(self, state: dict[str, Json]) -> None:
        """Write and flush to the disk, folder entry included, before this returns."""
        try:
            partial = self.path.with_name(self.path.name + ".partial")
            with partial.open("w", encoding="utf-8") as file:
                file.write(json.dumps(state))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Refused(
                f"{self.path}: the privacy ledger can't be written ({error.strerror}), so nothing is answered; "
                "make room on the disk and ask again"
            ) from error

    def _read(self) -> dict[str, Json] | None:
        if not self.path.exists():
            return None
        try:
            state = dict(json.loads(self.path.read_text(encoding="utf-8")))
            state["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(
                f"{self.path}: this privacy ledger can't be read; restore it from a backup "
                "(without it nobody knows what was spent, so nothing more is answered)"
            ) from error
        return state
