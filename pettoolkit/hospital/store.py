"""A hospital's own memory between messages: nothing in it ever leaves by itself."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol


class Store(Protocol):
    """Named bytes."""

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def put(self, key: str, value: bytes) -> None:
        """Keep a value; when this returns it is safe."""
        ...

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Hold while a value is read, changed and kept, so that no other process does so in between."""
        ...


class MemoryStore:
    """For simulations in one process."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        return self._values.get(key)

    def put(self, key: str, value: bytes) -> None:
        """Keep a value."""
        self._values[key] = value

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Nothing to wait for: no other process sees these values."""
        return nullcontext()


class FileStore:
    """Files in the hospital's own folder, readable by their owner alone, flushed before ``put`` returns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def get(self, key: str) -> bytes | None:
        """The value, or None."""
        try:
            return self._path(key).read_bytes()
        except FileNotFoundError:
            return None

    def put(self, key: str, value: bytes) -> None:
        """Write beside, flush, and rename: a crash leaves the old value or the new one, as do two writers at once."""
        write_private(self._path(key), value)

    def lock(self, key: str) -> AbstractContextManager[object]:
        """Wait until no other process holds this key's lock, a file beside the value; not to be nested."""
        from filelock import FileLock

        return FileLock(self._path(key).with_suffix(".lock"), mode=0o600)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"


def once(store: Store, key: str, compute: Callable[[], bytes]) -> bytes:
    """The stored answer, computed and kept at the first call."""
    value = store.get(key)
    if value is None:
        value = compute()
        store.put(key, value)
    return value


def write_private(path: Path, value: bytes) -> None:
    """Write a file for its owner alone: beside, flushed and renamed, so that a crash leaves the old one or the new."""
    descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".new")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
