"""A hospital's half of every encrypted arm: the keys that were carried there, and the count of what they decrypted."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import registry
from pettoolkit.encryption import keys
from pettoolkit.encryption.ckks import Decrypted, decrypt_measured
from pettoolkit.encryption.flooding import FloodingLedger
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import Scheme
from pettoolkit.errors import PetError, Refused
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import Store, once
from pettoolkit.records import RunSpec

Arrays = Mapping[str, npt.NDArray[Any]]
Noise = Callable[[Scheme], float]


@dataclass(frozen=True, eq=False)
class Flooded:
    """What may leave: values with noise, of their shape, and the standard deviation of that noise."""

    values: npt.NDArray[np.float64]
    sd: float


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
    with _locked(site, key):
        if site.store.get(last) == digest:
            return
        ledger = ledger_of(site, spec, key)
        ledger.count(len(blobs))
        keep(site, ledger)
        site.store.put(last, digest)


def flooded(site: Site, spec: RunSpec, key: SecretKey, values: npt.NDArray[Any], noise: Noise) -> Flooded:
    """Values as this run releases them, once; the release is written down before anything leaves.

    Parameters
    ----------
    values
        A function of decrypted sums.
    noise
        Gives the standard deviation of the noise, on the key's scheme.
    """
    with _locked(site, key):
        ledger = ledger_of(site, spec, key)
        sd = noise(ledger.scheme)
        noisy = ledger.release(released_as(spec, ledger), values, gain=sd / ledger.scheme.flooding_sd)
        keep(site, ledger)
    return Flooded(noisy, sd)


def opened(site: Site, spec: RunSpec, key: SecretKey, blobs: Sequence[bytes], label: str, name: str) -> Decrypted:
    """Decrypt the sum of a round, counted; a refusal after decryption is final.

    What is refused after decryption depends on the key, so each round is decided once: whatever comes under its name
    later gets the first answer.

    Parameters
    ----------
    label
        What the ciphertexts belong to.
    name
        Of the round in the hospital's store.

    Raises
    ------
    Refused
        If the sum is not one of all hospitals, or this round was refused before.
    """
    said = site.store.get(_refusal(name))
    if said is not None:
        raise Refused(said.decode())
    begun = False

    def before() -> None:
        nonlocal begun
        count(site, spec, key, blobs)
        begun = True

    try:
        return decrypt_measured(key, blobs, len(spec.sites), label, spec.sites, before=before)
    except Refused as error:
        if begun:
            site.store.put(_refusal(name), str(error).encode())
        raise


def refuse(site: Site, name: str, why: str) -> NoReturn:
    """Refuse a round for what was decrypted, for good; see :func:`opened`."""
    site.store.put(_refusal(name), why.encode())
    raise Refused(why)


def fixed(site: Site, spec: RunSpec, what: str, number: int) -> int:
    """A public number of a run, which the coordinator says with every request: the first one is kept.

    Weights, noise and steps follow from it, so it can't change on the way.

    Raises
    ------
    Refused
        If it is another one than before.
    """
    name = f"{spec.run_id}/said/{what}"
    with site.store.lock(name):
        first = int(once(site.store, name, lambda: str(number).encode()))
    if number != first:
        raise Refused(
            f"hospital {site.name}: this run began with {first} {what}, and now says {number} (start it under another "
            "seed or with other options)"
        )
    return number


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


def _locked(site: Site, key: SecretKey) -> AbstractContextManager[object]:
    return _counts(site).lock(_counted(site, key.key_id))


def _refusal(name: str) -> str:
    return f"{name}/refused"


def _counts(site: Site) -> Store:
    return site.store if site.key_counts is None else site.key_counts


def _counted(site: Site, key_id: str) -> str:
    return f"flooding/{site.name}/{key_id}"
