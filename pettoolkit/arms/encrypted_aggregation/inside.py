"""Encrypted aggregation: the hospital sends ciphertexts and is the only place where sums are decrypted."""

from __future__ import annotations

import io
import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.rounds import ServerState, contribution, server_step
from pettoolkit.encryption.ckks import decrypt, encrypt
from pettoolkit.encryption.flooding import FloodingLedger
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays, to_params, validation_losses
from pettoolkit.records import RunSpec


def count(site: Site, request: Request) -> Envelope:
    """The number of training patients, which is public and becomes this hospital's weight."""
    return Envelope("metrics", "setup", Figures({"num-examples": len(site.index(request.spec, "train"))}))


def contribute(site: Site, request: Request) -> Envelope:
    """This hospital's contribution, weighted by its share of patients, encrypted."""
    spec = request.spec
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    arrays, patients = contribution(site, spec, _state(site, spec, request.round - 1).model, request.round)
    began = time.perf_counter()
    weighted = layout.pack(arrays) * (patients / int(request.extra["patients"]))
    blobs = encrypt(key, weighted, _label(spec, request.round))
    return Envelope(
        "ciphertext", "training", Ciphertexts(tuple(blobs), patients), {"encrypt_seconds": time.perf_counter() - began}
    )


def apply(site: Site, request: Request) -> Envelope:
    """Decrypt the sum of a round, take the server step here, answer the new model's validation loss alone."""
    spec, number = request.spec, request.round
    began = time.perf_counter()
    once(site.store, _name(spec, number), lambda: _next_state(site, request))
    seconds = time.perf_counter() - began
    net, _ = start(spec, site.narrowed(spec))
    rows = site.part(spec, "validation")
    total = validation_losses(net, [to_params(_state(site, spec, number).model)], rows)[0]
    return Envelope(
        "metrics", "validation", Figures({"loss": total, "num-examples": len(rows), "decrypt_seconds": seconds})
    )


def release(site: Site, request: Request) -> Envelope:
    """The model of the chosen round, flooded once: what is released hides the error that would give the key away."""
    spec = request.spec
    data = once(site.store, f"{spec.run_id}/released", lambda: _flooded(site, request))
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return Envelope("model", "release", Arrays(arrays, int(request.extra["patients"])))


def _next_state(site: Site, request: Request) -> bytes:
    spec, number = request.spec, request.round
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    ledger = _ledger(site, key)
    ledger.count(len(request.blobs))
    _keep(site, ledger)
    aggregate = layout.unpack(decrypt(key, request.blobs, len(spec.sites), _label(spec, number)))
    return _dump(server_step(_state(site, spec, number - 1), aggregate, spec.options, number))


def _flooded(site: Site, request: Request) -> bytes:
    spec = request.spec
    ledger = _ledger(site, _key(site, spec))
    _, layout = scheme_of(spec, site.narrowed(spec))
    exact = layout.pack(_state(site, spec, int(request.extra["best"])).model)
    noisy = layout.unpack(ledger.release(spec.run_id, exact))
    _keep(site, ledger)
    buffer = io.BytesIO()
    np.savez(buffer, **{name: value.astype(np.float32) for name, value in noisy.items()})
    return buffer.getvalue()


def _key(site: Site, spec: RunSpec) -> SecretKey:
    if site.secret_key is None:
        raise Refused(f"hospital {site.name}: it has no encryption key (carry the key file there before the run)")
    scheme, _ = scheme_of(spec, site.narrowed(spec))
    return SecretKey.from_bytes(site.secret_key, f"hospital {site.name}").for_scheme(scheme)


def _ledger(site: Site, key: SecretKey) -> FloodingLedger:
    """What was decrypted under this key by all runs; the noise is sized for as many as the key was made for."""
    stored = site.store.get(f"flooding/{key.key_id}")
    made_for = SecretKey.from_bytes(site.secret_key or b"", f"hospital {site.name}").scheme.tau
    scheme = replace(key.scheme, tau=max(made_for, key.scheme.tau))
    if stored is None:
        return FloodingLedger(scheme, key.key_id)
    return replace(FloodingLedger.from_dict(json.loads(stored)), scheme=scheme)


def _keep(site: Site, ledger: FloodingLedger) -> None:
    site.store.put(f"flooding/{ledger.key_id}", json.dumps(ledger.to_dict()).encode())


def _label(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/{number}"


def _name(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/round/{number}"


def _state(site: Site, spec: RunSpec, number: int) -> ServerState:
    """The model and momenta after ``number`` rounds."""
    if number == 0:
        return ServerState.begin(to_arrays(start(spec, site.narrowed(spec))[1]))
    stored = site.store.get(_name(spec, number))
    if stored is None:
        raise Refused(f"hospital {site.name}: round {number} of this run is not in its store (start the cell again)")
    with np.load(io.BytesIO(stored), allow_pickle=False) as arrays:
        parts: dict[str, dict[str, npt.NDArray[Any]]] = {"model": {}, "first": {}, "second": {}}
        for name in arrays.files:
            part, tensor = name.split("/", 1)
            parts[part][tensor] = arrays[name]
    return ServerState(**parts)


def _dump(state: ServerState) -> bytes:
    named = {f"{part}/{k}": v for part in ("model", "first", "second") for k, v in getattr(state, part).items()}
    buffer = io.BytesIO()
    np.savez(buffer, **named)
    return buffer.getvalue()


HANDLERS = {"count": count, "contribute": contribute, "apply": apply, "release": release}
