"""The simulated hospitals of an experiment, and where each keeps what it must not forget."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from pettoolkit.experiment import keyfiles
from pettoolkit.experiment.scratch import scratch_folder
from pettoolkit.experiment.unfinished import Unfinished
from pettoolkit.records import RunSpec, digest_of

if TYPE_CHECKING:
    from pettoolkit.experiment.runner import Prepared
    from pettoolkit.hospital.site import Site


def hospitals(
    prepared: Prepared, todo: Sequence[RunSpec], engine: str, stack: ExitStack, kept: Path | None = None
) -> dict[str, Site]:
    """The simulated hospitals; if a cell needs keys, their files lie in each one's own folder.

    Those of Ray keep store and ledgers in files, so that a worker that is killed comes back with what its
    hospitals already knew and had spent. All do so below ``kept`` if it is given, and find there what they had kept.
    """
    from pettoolkit.hospital import store as stores
    from pettoolkit.hospital.site import Site

    root = kept
    if root is None and engine != "inline":
        root = stack.enter_context(scratch_folder())

    def own_folder(name: str) -> Path | None:
        return None if root is None else root / digest_of(name)[:16]

    def own_store(folder: Path | None) -> stores.Store:
        return stores.MemoryStore() if folder is None else stores.FileStore(folder)

    places = keyfiles.places(prepared.config.name, todo, sorted(prepared.cohort.hospitals), prepared.keys, root, stack)
    return {
        name: Site(
            name,
            hospital.rows,
            prepared.cohort.contract,
            store=own_store(own_folder(name)),
            keys=places.get(name),
            key_counts=None if prepared.keys is None else stores.FileStore(keyfiles.counts_of(prepared.keys, name)),
            folder=own_folder(name),
        )
        for name, hospital in prepared.cohort.hospitals.items()
    }


def kept_folder(prepared: Prepared, todo: Sequence[RunSpec], unfinished: Unfinished) -> Path | None:
    """Where hospitals keep what a stopped run needs; begun anew if their keys of then do not serve all cells of now."""
    root, names = unfinished.hospitals(todo), sorted(prepared.cohort.hospitals)
    if root is not None and not keyfiles.complete(prepared.config.name, todo, names, root):
        unfinished.forget()
    return unfinished.hospitals(todo)
