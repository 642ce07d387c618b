"""Encrypted aggregation: the hospital sends ciphertexts and is the only place where sums are decrypted."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import vault
from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_aggregation.scheme import scheme_of
from pettoolkit.arms.private import averaged, count, ledger_summary, training_of
from pettoolkit.arms.rounds import ServerState, contribution, server_step, settings_of
from pettoolkit.encryption.ckks import decrypt, encrypt
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays, to_params, validation_losses
from pettoolkit.records import RunSpec

FLOODING_SD = "flooding_sd"

LOSS_DIGITS = 2
"""Decimals of a summed validation loss that leave the hospital: it is a function of exact decryptions."""


def contribute(site: Site, request: Request) -> Envelope:
    """This hospital's contribution, weighted by its share of patients, encrypted."""
    spec = request.spec
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    arrays, patients = contribution(
        site, spec, _state(site, spec, request.round - 1).model, request.round, int(request.extra["patients"])
    )
    began = time.perf_counter()
    weighted = layout.pack(arrays) * (patients / int(request.extra["patients"]))
    blobs = encrypt(key, weighted, _label(request), site.name)
    return Envelope(
        "ciphertext", "training", Ciphertexts(tuple(blobs), patients), {"encrypt_seconds": time.perf_counter() - began}
    )


def apply(site: Site, request: Request) -> Envelope:
    """Decrypt the sum of a round, take the server step here, answer the new model's validation loss alone."""
    spec, number = request.spec, request.round
    began = time.perf_counter()
    once(site.store, _name(spec, number), lambda: _next_state(site, request))
    seconds = time.perf_counter() - began
    if spec.dp is not None:  # nothing of validation patients is read
        return Envelope("metrics", "training", Figures({"decrypt_seconds": seconds}))
    net, _ = start(spec, site.narrowed(spec))
    rows = site.part(spec, "validation")
    total = validation_losses(net, [to_params(_state(site, spec, number).model)], rows)[0]
    return Envelope(
        "metrics",
        "validation",
        Figures({"loss": round(total, LOSS_DIGITS), "num-examples": len(rows), "decrypt_seconds": seconds}),
    )


def release(site: Site, request: Request) -> Envelope:
    """The model of the chosen round, flooded once: what is released hides the error that would give the key away."""
    spec = request.spec
    vault.released_here(site, spec)
    data = once(site.store, f"{spec.run_id}/released", lambda: _flooded(site, request))
    arrays = vault.load(data)
    sd = float(arrays.pop(FLOODING_SD))
    return Envelope("model", "release", Arrays(arrays, len(site.index(spec, "train"))), {FLOODING_SD: sd})


def _next_state(site: Site, request: Request) -> bytes:
    spec, number = request.spec, request.round
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    vault.count(site, key, len(request.blobs))
    aggregate = layout.unpack(decrypt(key, request.blobs, len(spec.sites), _label(request), spec.sites))
    return _dump(
        server_step(
            _state(site, spec, number - 1), aggregate, settings_of(spec, int(request.extra["patients"])), number
        )
    )


def _flooded(site: Site, request: Request) -> bytes:
    spec = request.spec
    ledger = vault.ledger_of(site, _key(site, spec))
    _, layout = scheme_of(spec, site.narrowed(spec))
    exact = layout.pack(_final(site, request))
    noisy = layout.unpack(ledger.release(spec.run_id, exact))
    vault.keep(site, ledger)
    released = {name: value.astype(np.float32) for name, value in noisy.items()}
    return vault.dump({**released, FLOODING_SD: np.array(ledger.scheme.flooding_sd)})


def _final(site: Site, request: Request) -> Mapping[str, npt.NDArray[Any]]:
    """The model of the best round; under DP the mean over the last half of the rounds."""
    spec, best = request.spec, int(request.extra["best"])
    if spec.dp is None:
        return _state(site, spec, best).model
    training = training_of(spec, int(request.extra["patients"]))
    return averaged([_state(site, spec, n + 1).model for n in range(best)], training)


def _key(site: Site, spec: RunSpec) -> SecretKey:
    return vault.key_for(site, scheme_of(spec, site.narrowed(spec))[0])


def _label(request: Request) -> str:
    """What a round's ciphertexts belong to: also the total by which all hospitals were told to weight them."""
    return f"{request.spec.run_id}/{request.round}/{int(request.extra['patients'])}"


def _name(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/round/{number}"


def _state(site: Site, spec: RunSpec, number: int) -> ServerState:
    """The model and momenta after ``number`` rounds."""
    if number == 0:
        return ServerState.begin(to_arrays(start(spec, site.narrowed(spec))[1]))
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {"model": {}, "first": {}, "second": {}}
    for name, array in vault.stored(site, _name(spec, number), number).items():
        part, tensor = name.split("/", 1)
        parts[part][tensor] = array
    return ServerState(**parts)


def _dump(state: ServerState) -> bytes:
    parts = ("model", "first", "second")
    return vault.dump({f"{part}/{k}": v for part in parts for k, v in getattr(state, part).items()})


HANDLERS = {"count": count, "contribute": contribute, "apply": apply, "release": release, "ledger": ledger_summary}
