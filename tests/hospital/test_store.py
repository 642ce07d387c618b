"""A hospital's store: what was put is there, also for a process that comes later."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pettoolkit.hospital.store import FileStore, MemoryStore, once


def test_a_file_store_remembers_across_processes_and_is_for_its_owner_alone(tmp_path: Path) -> None:
    FileStore(tmp_path / "north").put("state/1", b"abc")

    assert FileStore(tmp_path / "north").get("state/1") == b"abc"
    assert FileStore(tmp_path / "north").get("state/2") is None
    modes = {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "north").iterdir()}
    assert modes == {0o600}


def test_writers_at_once_do_not_disturb_each_other(tmp_path: Path) -> None:
    values = [bytes([n]) * 1000 for n in range(100)]

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda value: FileStore(tmp_path).put("state", value), values))

    assert FileStore(tmp_path).get("state") in values
    assert len(list(tmp_path.iterdir())) == 1


def test_once_computes_once() -> None:
    store, calls = MemoryStore(), []

    def compute() -> bytes:
        calls.append(1)
        return b"x"

    assert [once(store, "k", compute), once(store, "k", compute)] == [b"x", b"x"]
    assert len(calls) == 1
