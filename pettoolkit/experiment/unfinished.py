"""What a run that was stopped leaves beside the results: journals of its cells, and the folders of its hospitals.

Only the process that holds the lock of the results uses any of it, so that nothing is taken from a living run.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from pettoolkit.records import RunSpec, digest_of

UNFINISHED = "unfinished"
"""Folder beside the results."""

STALE = 30 * 24 * 3600.0
"""Seconds after which what another experiment left is removed."""

ROUNDS = ("federated", "encrypted_aggregation", "encrypted_statistics", "encrypted_records")
"""Technologies with a training in rounds, which is worth to be gone on with."""

SUFFIX = ".journal"
HOSPITALS = "hospitals-"
_GONE = "removed-"


def resumable(spec: RunSpec) -> bool:
    """Whether a stopped cell goes on at its round."""
    return spec.arm in ROUNDS


def remembers(spec: RunSpec) -> bool:
    """Whether its hospitals have to keep something for that: a privacy ledger, or the model that they alone decrypt."""
    return resumable(spec) and (spec.dp is not None or spec.arm != "federated")


class Unfinished:
    """What one experiment left.

    A journal goes with the very same cell only. What hospitals keep goes with the very same cells, all of them: the
    folder is named after them, since an answer that was given for other patients must not come back. The journals of
    cells whose hospitals remember lie in that folder, so that neither is ever there without the other.

    Parameters
    ----------
    results
        Folder of the results, locked by this process.
    experiment
        Its name.
    current
        Hashes of all its cells as the file says now.
    """

    def __init__(self, results: Path, experiment: str, current: Iterable[str]) -> None:
        self._current = sorted(current)
        self._folder = (results / UNFINISHED / digest_of(experiment)[:16]).resolve()
        self._hospitals = self._folder / f"{HOSPITALS}{digest_of(self._current)[:16]}"
        self._spoiled = False

    def begin(self, *, afresh: bool) -> None:
        """Remove what nobody will go on from: of cells that changed, of old experiments; or all of this one."""
        if afresh:
            _remove(self._folder)
        for other in self._folder.parent.glob("*"):
            if other.is_file() or other.name.startswith(_GONE) or _age(other) > STALE:
                _remove(other)
        for journal in self._folder.glob(f"*{SUFFIX}"):
            if journal.stem not in self._current:
                journal.unlink()
        for folder in self._folder.glob(f"{HOSPITALS}*"):
            if folder != self._hospitals or not any(folder.glob(f"*{SUFFIX}")):
                _remove(folder)

    def hospitals(self, todo: Iterable[RunSpec]) -> Path | None:
        """Where hospitals keep what a stopped run needs, if one of the cells needs it."""
        if not any(map(remembers, todo)):
            return None
        self._hospitals.mkdir(mode=0o700, parents=True, exist_ok=True)
        return self._hospitals

    def forget(self) -> None:
        """Let all cells whose hospitals remember begin anew."""
        _remove(self._hospitals)

    def journal(self, spec: RunSpec, name: str) -> Path | None:
        """File of the answers in a cell's training; None if it always starts as a whole."""
        if not resumable(spec):
            return None
        return (self._hospitals if remembers(spec) else self._folder) / f"{name}{SUFFIX}"

    def finished(self, spec: RunSpec, name: str) -> None:
        """Forget a cell whose result is kept."""
        if (journal := self.journal(spec, name)) is not None:
            journal.unlink(missing_ok=True)

    def failed(self, spec: RunSpec) -> None:
        """Let an encrypted cell that failed begin anew: its hospitals may have refused a sum for good."""
        self._spoiled |= remembers(spec) and spec.arm != "federated"

    def end(self) -> None:
        """Remove what no cell needs any more; not called by a run that is stopped."""
        if self._spoiled or not any(self._hospitals.glob(f"*{SUFFIX}")):
            _remove(self._hospitals)
        if self._folder.is_dir() and not any(self._folder.iterdir()):
            self._folder.rmdir()


def _remove(path: Path) -> None:
    """Remove a file or folder; a folder is there as a whole, or not at all, whenever this is stopped."""
    if path.is_symlink() or path.is_file():
        path.unlink()
        return
    if not path.is_dir():
        return
    if path.name.startswith(_GONE):
        shutil.rmtree(path)
        return
    # Out of the way first, to the place that begin() looks through.
    root = next(folder for folder in path.parents if folder.name == UNFINISHED)
    shutil.rmtree(path.rename(root / f"{_GONE}{path.name}-{time.time_ns()}"))


def _age(folder: Path) -> float:
    newest = max(path.stat().st_mtime for path in (folder, *folder.rglob("*")))
    return time.time() - newest
