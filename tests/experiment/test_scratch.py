"""A run's folder disappears with it: at its end, or at the start of the next run if it was killed."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pettoolkit.experiment.scratch import LOCK, PREFIX, scratch_folder

KILLED = """
import os, signal
from pettoolkit.experiment.scratch import scratch_folder
with scratch_folder() as folder:
    (folder / "north").mkdir()
    (folder / "north" / "ledger.bin").write_bytes(b"spent")
    print(folder, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A temporary folder of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_its_owners_alone_and_gone_afterwards(temporary: Path) -> None:
    with scratch_folder() as folder:
        assert folder.parent == temporary
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "x").write_bytes(b"x")
    assert list(temporary.iterdir()) == []


def test_it_is_gone_after_an_error_too(temporary: Path) -> None:
    with pytest.raises(KeyboardInterrupt), scratch_folder():
        raise KeyboardInterrupt
    assert list(temporary.iterdir()) == []


def test_what_a_killed_run_left_is_removed_by_the_next_one(temporary: Path) -> None:
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", KILLED], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    left = Path(done.stdout.strip())
    assert (left / "north" / "ledger.bin").read_bytes() == b"spent"

    with scratch_folder() as folder:
        assert list(temporary.iterdir()) == [folder]


def test_a_living_run_keeps_its_folder() -> None:
    with scratch_folder() as first:
        with scratch_folder() as second:
            assert first.is_dir()
            assert second != first
        assert (first / LOCK).is_file()


def test_what_is_not_ours_is_left_alone(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK).touch()
    (temporary / f"{PREFIX}link").symlink_to(elsewhere)
    (temporary / f"{PREFIX}without-a-lock").mkdir()
    (temporary / f"{PREFIX}file").touch()
    other = temporary / f"{PREFIX}other"
    other.mkdir()
    (other / LOCK).touch()
    mine = os.getuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: mine + 1)
        with scratch_folder():
            pass
    before = {path.name for path in temporary.iterdir()}
    assert len(before) == 5
    with scratch_folder():
        pass
    assert before - {path.name for path in temporary.iterdir()} == {other.name}
