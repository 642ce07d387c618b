"""Encrypted aggregation: the hospital sends ciphertexts and is the only place where sums are decrypted."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import vault
from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_aggregation.gain import gain
from pettoolkit.arms.encrypted_aggregation.scheme import CLIP, scheme_of
from pettoolkit.arms.private import (
    SURE,
    at_hospital,
    averaged,
    budget_of,
    check_room,
    count,
    ledger_summary,
    training_of,
)
from pettoolkit.arms.rounds import ServerState, contribution, server_step, settings_of
from pettoolkit.encryption.ckks import coarse, encrypt
from pettoolkit.encryption.errors import OutOfRange
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays, to_params, validation_losses
from pettoolkit.privacy.noise import site_sd
from pettoolkit.records import Json, RunSpec


def contribute(site: Site, request: Request) -> Envelope:
    """This hospital's contribution, weighted by its share of patients, that share, and a part of a validation loss.

    All of it is encrypted. The loss is that of the model which the round starts from. After the last round only the
    share and the loss are left to say.
    """
    spec, number, patients = request.spec, request.round, _same_patients(site, request)
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    weighted = np.zeros(layout.values)
    if number <= _rounds(request):
        _check_room(site, spec, patients)
        arrays, here = contribution(site, spec, _state(site, spec, number - 1).model, number, patients)
        weighted = layout.pack(arrays) * (here / patients)
    else:
        here = len(site.index(spec, "train"))
    weighted = np.append(weighted, here / patients)
    if spec.dp is None:
        weighted = np.append(weighted, min(_loss(site, spec, number - 1) / patients, CLIP))
    began = time.perf_counter()
    try:
        blobs = encrypt(key, weighted, _label(request), site.name)
    except OutOfRange as error:
        if spec.dp is None:
            raise
        raise Refused(
            f"hospital {site.name}: dp.epsilon: {budget_of(spec).epsilon:g} takes more noise than the encryption has "
            f"room for; write a larger epsilon ({error})"
        ) from None
    return Envelope(
        "ciphertext", "training", Ciphertexts(tuple(blobs), here), {"encrypt_seconds": time.perf_counter() - began}
    )


def apply(site: Site, request: Request) -> Envelope:
    """Decrypt the sum of a round and take the server step here; nothing of either leaves."""
    began = time.perf_counter()
    _same_patients(site, request)
    once(site.store, _name(request.spec, request.round), lambda: _next_state(site, request))
    return Envelope("metrics", "training", Figures({"decrypt_seconds": time.perf_counter() - began}))


def release(site: Site, request: Request) -> Envelope:
    """The model of the best round, flooded once: what is released hides the error that would give the key away."""
    spec = request.spec
    vault.released_here(site, spec)
    _same_patients(site, request)
    arrays = vault.load(once(site.store, f"{spec.run_id}/released", lambda: _flooded(site, request)))
    figures = {name: float(arrays.pop(name)) for name in FIGURES}
    return Envelope("model", "release", Arrays(arrays, site.training_patients(spec)[1]), figures)


FIGURES = ("flooding_sd", "max_error", "round")
"""What is told beside the model: the noise on it, the largest error that was seen, which round it is of."""

SHARES = 1e-6
"""The hospitals' shares of the patients add up to 1 within this; the error of a decrypted sum is below it."""


def _next_state(site: Site, request: Request) -> bytes:
    spec, number = request.spec, request.round
    if not 1 <= number <= _rounds(request) + (spec.dp is None):
        raise Refused(f"hospital {site.name}: this run has {_rounds(request)} rounds, round {number} is none of them")
    key = _key(site, spec)
    _, layout = scheme_of(spec, site.narrowed(spec))
    name = _name(spec, number)
    found = vault.opened(site, spec, key, request.blobs, _label(request), name)
    if not abs(found.values[layout.values] - 1) <= SHARES:
        vault.refuse(
            site,
            name,
            f"hospital {site.name}: the hospitals' shares of the {_patients(request)} patients do not add up to 1, so "
            "the sum is no average (compare what each hospital counts; then start the run under another seed)",
        )
    noted = {"error": np.array(found.error), "loss": found.values[layout.values + 1 :]}
    if number > _rounds(request):
        return vault.dump(noted)
    aggregate = layout.unpack(found.values[: layout.values])
    return _dump(server_step(_state(site, spec, number - 1), aggregate, _settings(request), number), noted)


def _flooded(site: Site, request: Request) -> bytes:
    spec = request.spec
    _, layout = scheme_of(spec, site.narrowed(spec))
    best = _best(site, request)
    gains = gain(_settings(request))
    exact = layout.pack(_final(site, request, best))
    noisy = vault.flooded(site, spec, _key(site, spec), exact, lambda scheme: scheme.flooding_sd * gains)
    released = {name: value.astype(np.float32) for name, value in layout.unpack(noisy.values).items()}
    seen = max(float(_noted(site, spec, n)["error"]) for n in range(1, _rounds(request) + 1))
    figures = {"flooding_sd": noisy.sd, "max_error": coarse(seen), "round": best}
    return vault.dump({**released, **{name: np.array(value) for name, value in figures.items()}})


def _best(site: Site, request: Request) -> int:
    """The round with the lowest validation loss over all hospitals; under DP, where nothing is validated, the last."""
    spec, rounds = request.spec, _rounds(request)
    if spec.dp is not None:
        return rounds
    return 1 + int(np.argmin([_noted(site, spec, n + 1)["loss"][0] for n in range(1, rounds + 1)]))


def _check_room(site: Site, spec: RunSpec, patients: int) -> None:
    """Refuse a budget whose noise on mean gradients leaves the range of the encryption; see :func:`check_room`."""
    if spec.dp is None or spec.options["strategy"] != "fedsgd":
        return
    _, _, plan, here = at_hospital(site, spec, patients)
    m = plan.mechanism
    sampled = here * m.q + SURE * math.sqrt(here * m.q * (1 - m.q))
    sd = site_sd(m.sigma, m.sensitivity, plan.mode, m.honest_sites)
    check_room(site, spec, m.sensitivity * sampled, sd, CLIP * patients * m.q)


def _loss(site: Site, spec: RunSpec, number: int) -> float:
    """Summed loss on this hospital's validation patients of the model after ``number`` rounds."""
    if number == 0:  # the model that everybody starts from is never kept
        return 0.0
    net, _ = start(spec, site.narrowed(spec))
    model = to_params(_state(site, spec, number).model)
    total = validation_losses(net, [model], site.part(spec, "validation"))[0]
    return total if np.isfinite(total) else np.inf


def _final(site: Site, request: Request, best: int) -> Mapping[str, npt.NDArray[Any]]:
    """The model of the best round; under DP the mean over the last half of the rounds."""
    spec = request.spec
    if spec.dp is None:
        return _state(site, spec, best).model
    training = training_of(spec, _patients(request))
    return averaged([_state(site, spec, n + 1).model for n in range(best)], training)


def _key(site: Site, spec: RunSpec) -> SecretKey:
    return vault.key_for(site, spec, scheme_of(spec, site.narrowed(spec))[0])


def _same_patients(site: Site, request: Request) -> int:
    """The number of patients that the run began with; another one is refused."""
    return vault.fixed(site, request.spec, "patients", _patients(request))


def _patients(request: Request) -> int:
    """Public number of training patients of all hospitals together."""
    return int(request.extra["patients"])


def _settings(request: Request) -> Mapping[str, Json]:
    return settings_of(request.spec, _patients(request))


def _rounds(request: Request) -> int:
    return int(_settings(request)["rounds"])


def _label(request: Request) -> str:
    """What a round's ciphertexts belong to: also the total by which all hospitals were told to weight them."""
    return f"{request.spec.run_id}/{request.round}/{_patients(request)}"


def _name(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/round/{number}"


def _state(site: Site, spec: RunSpec, number: int) -> ServerState:
    """The model and momenta after ``number`` rounds."""
    if number == 0:
        return ServerState.begin(to_arrays(start(spec, site.narrowed(spec))[1]))
    parts: dict[str, dict[str, npt.NDArray[Any]]] = {"model": {}, "first": {}, "second": {}}
    for name, array in _noted(site, spec, number).items():
        part, _, tensor = name.partition("/")
        if tensor:
            parts[part][tensor] = array
    return ServerState(**parts)


def _noted(site: Site, spec: RunSpec, number: int) -> dict[str, npt.NDArray[Any]]:
    """All that was kept of a round: the state after it, the loss that came with it, the error that was seen."""
    return vault.stored(site, _name(spec, number), number)


def _dump(state: ServerState, noted: Mapping[str, npt.NDArray[Any]]) -> bytes:
    parts = ("model", "first", "second")
    return vault.dump({f"{part}/{k}": v for part in parts for k, v in getattr(state, part).items()} | dict(noted))


HANDLERS = {"count": count, "contribute": contribute, "apply": apply, "release": release, "ledger": ledger_summary}
