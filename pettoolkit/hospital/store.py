"""A hospital's own memory between messages: nothing in it ever leaves by itself."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
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
        """Write beside, flush, and rename: a crash leaves the old value or the new one."""
        path = self._path(key)
        beside = path.with_suffix(".new")
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(value)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)

    def _path(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.bin"


def once(store: Store, key: str, compute: Callable[[], bytes]) -> bytes:
    """The stored answer, computed and kept at the first call."""
    value = store.get(key)
    if value is None:
        value = compute()
        store.put(key, value)
    return value
