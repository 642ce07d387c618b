"""A hospital's half of every encrypted arm: the keys that were carried there, and the count of what they decrypted."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.encryption.flooding import FloodingLedger
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import Refused
from pettoolkit.hospital.site import Site
from pettoolkit.records import RunSpec

Arrays = Mapping[str, npt.NDArray[Any]]


def key_for(site: Site, scheme: Scheme) -> SecretKey:
    """The key that this hospital holds for a scheme's ring.

    Raises
    ------
    Refused
        If it holds no key at all, or none for this ring.
    """
    return _held(site, scheme).for_scheme(scheme)


def ledger_of(site: Site, key: SecretKey) -> FloodingLedger:
    """What was decrypted under this key by all runs; the noise is sized for as many as the key was made for."""
    scheme = replace(key.scheme, tau=_held(site, key.scheme).scheme.tau)
    stored = site.store.get(f"flooding/{key.key_id}")
    if stored is None:
        return FloodingLedger(scheme, key.key_id)
    return replace(FloodingLedger.from_dict(json.loads(stored)), scheme=scheme)


def released_here(site: Site, spec: RunSpec) -> None:
    """Refuse to release unless this is the one hospital that does: several draws of noise would average out."""
    if site.name != min(spec.sites):
        raise Refused(f"hospital {site.name}: the model of this run is released by hospital {min(spec.sites)} alone")


def keep(site: Site, ledger: FloodingLedger) -> None:
    """Write the count down; call it before what was counted is used."""
    site.store.put(f"flooding/{ledger.key_id}", json.dumps(ledger.to_dict()).encode())


def count(site: Site, key: SecretKey, ciphertexts: int) -> None:
    """Count decryptions before they happen.

    Raises
    ------
    FloodingSpent
        If the noise of what is released was not sized for that many.
    """
    ledger = ledger_of(site, key)
    ledger.count(ciphertexts)
    keep(site, ledger)


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


def _held(site: Site, scheme: Scheme) -> SecretKey:
    """The carried key for a ring, with the scheme that it was made for."""
    if not site.secret_keys:
        raise Refused(f"hospital {site.name}: it has no encryption key (carry the key file there before the run)")
    for data in site.secret_keys:
        key = SecretKey.from_bytes(data, f"hospital {site.name}")
        if key.scheme.ring == scheme.ring:
            return key
    raise Refused(
        f"hospital {site.name}: it has no encryption key for ring {scheme.ring[0]} with primes {scheme.ring[1]} "
        "(make one for this experiment with `pettoolkit keys create`)"
    )
