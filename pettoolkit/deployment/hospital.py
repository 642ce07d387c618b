"""A deployed hospital's half: what it holds in its own folder, and the Flower app that answers from there.

Flower starts a new process for every message, so nothing is remembered but in files. Each answer is kept under a
digest of its question: asked the same again, after a crash or a lost reply, the hospital says the same again, and
nothing is computed, drawn or spent a second time.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path

import pandas as pd
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from pettoolkit.arms.app import respond
from pettoolkit.arms.exchange import spec_of
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.tables import load_tables, resolved
from pettoolkit.deployment.folders import HospitalFolder
from pettoolkit.errors import BadInput, PetError, Refused
from pettoolkit.federation import wire
from pettoolkit.federation.host import sanitised
from pettoolkit.hospital.policy import Policy
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import FileStore, once

FOLDER = "PETTOOLKIT_HOSPITAL"
"""Environment variable with the hospital's folder; Flower hands it down to the processes that it starts."""

LEDGER = "ledger"
"""The action that asks what was spent."""

_log = logging.getLogger("pettoolkit.hospital")


def build_app() -> ClientApp:
    """The app of the hospital whose folder the environment names."""

    def answer(message: Message, _: Context) -> Message:
        return answered(HospitalFolder(Path(os.environ[FOLDER])), message)

    built = ClientApp(mods=[sanitised])
    for register in (built.train, built.evaluate, built.query):
        register()(answer)
    return built


def answered(folder: HospitalFolder, message: Message) -> Message:
    """Answer from the store if this was asked before, else compute, keep and answer.

    The policy is read first, and what it says today counts for old answers, too. The roll call and what was spent are
    said anew each time.

    Raises
    ------
    Refused
        If the policy does not grant the run, the hospital's own files can't be used, or its table is another than when
        it first answered this run: old answers would be mixed with new ones. A run to which nothing was answered yet,
        since the table could not be used, is not bound to that table.
    """
    try:
        name, policy, written = folder.keys.name, folder.policy, folder.contract
        contract = resolved(written)
    except PetError as error:
        raise _unusable(folder, "settings", error) from None
    asked = wire.read_request(message.content)
    if asked.action == wire.HELLO:
        return respond(_site(folder, name, policy, contract, pd.DataFrame()), message)
    spec = spec_of(asked.spec)
    policy.admit(name, asked.arm, spec)

    state = state_of(folder, written)
    if asked.action == LEDGER:
        return respond(_site(folder, name, policy, contract, rows_of(folder, state)), message)

    begun, now = FileStore(folder.state / "began"), state.encode()
    changed = Refused(f"hospital {name}: its table has changed since it first answered this run (run another seed)")
    if begun.get(spec.run_id) not in (None, now):
        raise changed

    def computed() -> bytes:
        rows = rows_of(folder, state)
        # Not before: a table that can't be used binds the run to nothing. Not after: the answer may spend.
        with begun.lock(spec.run_id):
            if once(begun, spec.run_id, lambda: now) != now:
                raise changed
        return wire.dump(respond(_site(folder, name, policy, contract, rows), message).content)

    store = FileStore(folder.state / "answers")
    key = wire.digest(message.content)
    with store.lock(key):
        kept = once(store, key, computed)
    return Message(wire.load(kept), reply_to=message)


def rows_of(folder: HospitalFolder, state: str) -> pd.DataFrame:
    """This hospital's rows; checked once for each state of its table and contract, then read as they were kept.

    Parameters
    ----------
    state
        What :func:`state_of` gave: rows of another state are not kept, nor given.

    Raises
    ------
    Refused
        If they can't be used; what is wrong can quote a patient's values and is for the hospital's own log alone.
    """
    try:
        store = FileStore(folder.state / "table")
        return pd.read_parquet(io.BytesIO(once(store, state, lambda: _read(folder, state))))
    except (PetError, OSError) as error:
        raise _unusable(folder, "table", error) from None


def state_of(folder: HospitalFolder, contract: Contract) -> str:
    """Digest of a hospital's table as it is now, under a contract.

    Raises
    ------
    Refused
        If the table can't be read.
    """
    try:
        return hashlib.sha256(folder.table.read_bytes() + contract.digest().encode()).hexdigest()
    except (PetError, OSError) as error:
        raise _unusable(folder, "table", error) from None


def _read(folder: HospitalFolder, state: str) -> bytes:
    tables, _ = load_tables([folder.table], folder.folder / "contract.yaml")
    if state_of(folder, folder.contract) != state:
        raise BadInput(f"{folder.table}: it, or its contract, was changed while it was read")
    if len(tables) != 1:
        raise BadInput(f"{folder.table}: holds rows of {len(tables)} hospitals ({', '.join(tables)}), not of one")
    buffer = io.BytesIO()
    next(iter(tables.values())).to_parquet(buffer, index=False)
    return buffer.getvalue()


def _site(folder: HospitalFolder, name: str, policy: Policy, contract: Contract, rows: pd.DataFrame) -> Site:
    keys = folder.encryption_keys
    return Site(
        name,
        rows,
        contract,
        policy=policy,
        store=FileStore(folder.state / "store"),
        salt=folder.salt.read_bytes(),
        keys=keys if keys.is_dir() else None,
        folder=folder.state,
        system_noise=True,
    )


def _unusable(folder: HospitalFolder, what: str, error: Exception) -> Refused:
    _log.error("%s", error)
    name = folder.folder.name if what == "settings" else folder.keys.name
    return Refused(f"hospital {name}: its {what} can't be used (its own log says why)")


app = build_app()
"""What Flower loads in the hospital's process."""
