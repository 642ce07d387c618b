"""A hospital's half of every encrypted arm: the keys that were carried there, and the count of what they decrypted."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import registry
from pettoolkit.encryption import keys
from pettoolkit.encryption.flooding import FloodingLedger
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import PetError, Refused
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import Store
from pettoolkit.records import RunSpec

Arrays = Mapping[str, npt.NDArray[Any]]


def key_for(site: Site, spec: RunSpec, scheme: Scheme) -> SecretKey:
    """This hospital's key for a run of its arm, read from the file that was carried here.

    Raises
    ------
    Refused
        If it holds no key at all, or none for this purpose, run and ring.
    """
    return _held(site, spec, scheme).for_scheme(scheme)


def ledger_of(site: Site, spec: RunSpec, key: SecretKey) -> FloodingLedger:
    """What was decrypted under this key by all runs; the noise is sized for as many as the key was made for."""
    scheme = replace(key.scheme, tau=_held(site, spec, key.scheme).scheme.tau)
    stored = _counts(site).get(_counted(site, key.key_id))
    if stored is None:
        return FloodingLedger(scheme, key.key_id)
    return replace(FloodingLedger.from_dict(json.loads(stored)), scheme=scheme)


def released_here(site: Site, spec: RunSpec) -> None:
    """Refuse to release unless this is the one hospital that does: several draws of noise would average out."""
    if site.name != min(spec.sites):
        raise Refused(f"hospital {site.name}: the model of this run is released by hospital {min(spec.sites)} alone")


def released_as(spec: RunSpec, ledger: FloodingLedger) -> str:
    """Name of a release: the run, and all that was decrypted by then.

    A run that is played again decrypts again, which is counted and for which the noise is sized; without new
    decryptions a second draw of noise is refused.
    """
    return f"{spec.run_id} after {ledger.decrypted}"


def keep(site: Site, ledger: FloodingLedger) -> None:
    """Write the count down; call it before what was counted is used."""
    _counts(site).put(_counted(site, ledger.key_id), json.dumps(ledger.to_dict()).encode())


def count(site: Site, spec: RunSpec, key: SecretKey, blobs: Sequence[bytes]) -> None:
    """Count decryptions before they happen; call it after everything that is written in the clear was checked.

    The very same ciphertexts again tell nothing new, so they are counted once.

    Raises
    ------
    FloodingSpent
        If the noise of what is released was not sized for that many.
    """
    digest = hashlib.sha256(b"".join(blobs)).digest()
    last = f"flooding/last/{key.key_id}"
    if site.store.get(last) == digest:
        return
    ledger = ledger_of(site, spec, key)
    ledger.count(len(blobs))
    keep(site, ledger)
    site.store.put(last, digest)


def dump(arrays: Arrays) -> bytes:
    """Named arrays as bytes for the hospital's store."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def load(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """Inverse of :func:`dump`."""
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def stored(site: Site, name: str, number: int) -> dict[str, npt.NDArray[Any]]:
    """What this hospital kept of a round.

    Raises
    ------
    Refused
        If it has nothing of that name.
    """
    data = site.store.get(name)
    if data is None:
        raise Refused(f"hospital {site.name}: round {number} of this run is not in its store (start the cell again)")
    return load(data)


def _held(site: Site, spec: RunSpec, scheme: Scheme) -> SecretKey:
    """The carried key for a run, with the scheme that it was made for."""
    if site.keys is None:
        raise Refused(f"hospital {site.name}: it has no encryption key (carry the key file there before the run)")
    try:
        return keys.load_once(keys.find(site.keys, registry.key_purpose(spec.arm), scheme, spec.run_id).path)
    except PetError as error:
        raise Refused(f"hospital {site.name}: {error}") from None


def _counts(site: Site) -> Store:
    return site.store if site.key_counts is None else site.key_counts


def _counted(site: Site, key_id: str) -> str:
    return f"flooding/{site.name}/{key_id}"
