"""The folder in which the hospitals of one run keep their files, gone when the run ends, however it ends.

A run that is killed can't clean up behind itself; the next one does it. Whether an owner still lives is told by a
lock that the system frees with the process, so that no living run loses its folder.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PREFIX = "pettoolkit-run-"
LOCK = "owner.lock"
_UNLOCKED = "pettoolkit-new-"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make a folder of this run's own below the system's temporary folder, readable by its owner alone.

    Folders of this user's dead runs are removed first.
    """
    from filelock import FileLock

    _sweep(Path(tempfile.gettempdir()))
    made = Path(tempfile.mkdtemp(prefix=_UNLOCKED))
    lock = FileLock(made / LOCK)
    lock.acquire(timeout=0)
    # It gets the name under which others look for it when it is locked, never before.
    folder = made.rename(made.with_name(made.name.replace(_UNLOCKED, PREFIX, 1)))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def _sweep(parent: Path) -> None:
    """Remove folders of ours whose lock nobody holds; not those without one, links, or another user's."""
    from filelock import FileLock, Timeout

    for folder in parent.glob(f"{PREFIX}*"):
        try:
            mine = folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()
            if not mine or not (folder / LOCK).is_file():
                continue
            with FileLock(folder / LOCK).acquire(timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (Timeout, FileNotFoundError):  # its owner lives, or another run removes it at this moment
            continue
