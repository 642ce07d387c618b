"""Encrypted records: every hospital uploads its rows encrypted, once; one of them refreshes the encrypted weights.

Whether a refreshed ciphertext was a step, and whether training diverged, are answers about decrypted values. So the
hospital keeps them to itself while training goes on, in every case in the same way, and in the end releases nothing,
for whatever cause, with the same words. One run tells at most this one bit.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import vault
from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_records.descent import ahead, gain
from pettoolkit.arms.encrypted_records.scheme import plan_of, scheme_of
from pettoolkit.arms.private import not_under_dp
from pettoolkit.encryption.ckks import coarse
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import FLOODING_BITS
from pettoolkit.encryption.records import (
    RecordsPlan,
    encrypt_rows,
    encrypt_weights,
    evaluation_keys,
    in_range,
    refresh,
)
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays
from pettoolkit.records import RunSpec

Floats = npt.NDArray[np.float64]

FIGURES = ("flooding_sd", "max_error")
"""What is told beside the model: the noise on it, and the largest error that was seen."""

NOT_RELEASED = (
    "the weights of this run are not released: training diverged, or what was refreshed was not a step of it "
    "(lower learning_rate, compare the hospitals' key files, then run it again)"
)


def count(site: Site, request: Request) -> Envelope:
    """The number of training patients, which is public."""
    return Envelope("metrics", "setup", Figures({"num-examples": len(site.index(request.spec, "train"))}))


def keys(site: Site, request: Request) -> Envelope:
    """Evaluation keys, with which the coordinator computes on ciphertexts; they neither encrypt nor decrypt."""
    key, plan = _key_and_plan(site, request)
    return Envelope("ciphertext", "setup", Ciphertexts(evaluation_keys(key, plan), _rows(request)))


def upload(site: Site, request: Request) -> Envelope:
    """This hospital's share of the rows, encrypted; drawn by the run's seed."""
    key, plan = _key_and_plan(site, request)
    shares: dict[str, int] = json.loads(str(request.extra["shares"]))
    first = sum(n for name, n in sorted(shares.items()) if name < site.name)
    x, y = design(site, request.spec, shares[site.name])
    began = time.perf_counter()
    blobs = encrypt_rows(key, plan, x, y, first)
    seconds = time.perf_counter() - began
    return Envelope("ciphertext", "training", Ciphertexts(tuple(blobs.values()), len(y)), {"encrypt_seconds": seconds})


def begin(site: Site, request: Request) -> Envelope:
    """The initial weights, encrypted."""
    key, plan = _key_and_plan(site, request)
    _, point = _state(site, request.spec, 0)
    return _sealed(key, plan, point, request)


def again(site: Site, request: Request) -> Envelope:
    """The weights after a step, encrypted afresh: one ciphertext in, one out, and nothing else."""
    key, plan = _key_and_plan(site, request)
    if not 1 <= request.round < _iterations(request):
        raise Refused(f"hospital {site.name}: this run refreshes after steps 1 to {_iterations(request) - 1}")
    began = time.perf_counter()
    _take(site, request, key, plan)
    seconds = time.perf_counter() - began
    _, point = _state(site, request.spec, request.round)
    return _sealed(key, plan, point, request, seconds)


def release(site: Site, request: Request) -> Envelope:
    """The weights after the last step, flooded once."""
    spec = request.spec
    vault.released_here(site, spec)
    key, plan = _key_and_plan(site, request)
    if request.round != _iterations(request):
        raise Refused(f"hospital {site.name}: the weights of this run are released after step {_iterations(request)}")
    began = time.perf_counter()
    _take(site, request, key, plan)
    seconds = time.perf_counter() - began
    if not all(_noted(site, spec, number)["sound"] for number in range(1, request.round + 1)):
        raise Refused(f"hospital {site.name}: {NOT_RELEASED}")
    arrays = vault.load(once(site.store, f"{spec.run_id}/records/released", lambda: _flooded(site, request, key, plan)))
    figures = {name: float(arrays.pop(name)) for name in FIGURES} | {"decrypt_seconds": seconds}
    return Envelope("model", "release", Arrays(arrays, _rows(request)), figures)


def design(site: Site, spec: RunSpec, share: int) -> tuple[Floats, Floats]:
    """This hospital's first ``share`` training rows in the seed's order, a leading 1 added, and their outcomes."""
    not_under_dp(site, spec, "rows")
    most = share if spec.patients_per_site is None else min(share, spec.patients_per_site)
    rows = site.part(replace(spec, patients_per_site=most), "train")
    x = rows.x.numpy().astype(np.float64)
    return np.hstack([np.ones((len(x), 1)), x]), rows.y.numpy().astype(np.float64)


def initial(site: Site, spec: RunSpec) -> Floats:
    """Where training starts, in every arm: intercept and weights, shape (1 + features,)."""
    arrays = to_arrays(start(spec, site.narrowed(spec))[1])
    return np.concatenate([arrays["layer0.bias"], arrays["layer0.weight"][0]], dtype=np.float64)


def _take(site: Site, request: Request, key: SecretKey, plan: RecordsPlan) -> None:
    """Decrypt the weights of a step and keep them here, with the point from which the next step is taken."""

    def step() -> bytes:
        number = request.round
        old, point = _state(site, request.spec, number - 1)
        blob = request.blobs[0]
        found = refresh(key, plan, blob, point, before=lambda: vault.count(site, request.spec, key, [blob]))
        onward = ahead(found.weights, old, number)
        sound = found.sound and in_range(onward)
        kept = {"weights": found.weights, "point": onward} if sound else {"weights": old, "point": old}
        return vault.dump({**kept, "sound": np.array(sound), "error": np.array(found.error)})

    once(site.store, _name(request.spec, request.round), step)


def _flooded(site: Site, request: Request, key: SecretKey, plan: RecordsPlan) -> bytes:
    spec = request.spec
    weights, _ = _state(site, spec, request.round)
    # What is decrypted has been multiplied, so its error is not that of a sum, for which the scheme's own SD is.
    flooded = vault.flooded(
        site, spec, key, weights, lambda scheme: plan.flooding_sd(scheme.tau, FLOODING_BITS, gain(request.round))
    )
    noisy = flooded.values.astype(np.float32)
    seen = max(float(_noted(site, spec, number)["error"]) for number in range(1, request.round + 1))
    told = {"flooding_sd": np.array(flooded.sd), "max_error": np.array(coarse(seen))}
    return vault.dump({"layer0.weight": noisy[None, 1:], "layer0.bias": noisy[:1], **told})


def _sealed(
    key: SecretKey, plan: RecordsPlan, point: Floats, request: Request, decrypt_seconds: float = 0.0
) -> Envelope:
    began = time.perf_counter()
    blob = encrypt_weights(key, plan, point)
    figures = {"encrypt_seconds": time.perf_counter() - began, "decrypt_seconds": decrypt_seconds}
    return Envelope("ciphertext", "training", Ciphertexts((blob,), _rows(request)), figures)


def _key_and_plan(site: Site, request: Request) -> tuple[SecretKey, RecordsPlan]:
    contract = site.narrowed(request.spec)
    vault.fixed(site, request.spec, "rows", _rows(request))
    key = vault.key_for(site, request.spec, scheme_of(request.spec, contract))
    return key, plan_of(request.spec, contract, _rows(request))


def _state(site: Site, spec: RunSpec, number: int) -> tuple[Floats, Floats]:
    """Weights after a number of steps, and the point from which the next is taken."""
    if number == 0:
        weights = initial(site, spec)
        return weights, weights
    arrays = _noted(site, spec, number)
    return arrays["weights"], arrays["point"]


def _noted(site: Site, spec: RunSpec, number: int) -> dict[str, npt.NDArray[Any]]:
    """All that was kept of a step: weights, the next point, whether it was sound, the error that was seen."""
    return vault.stored(site, _name(spec, number), number)


def _iterations(request: Request) -> int:
    return int(request.spec.options["iterations"])


def _rows(request: Request) -> int:
    return int(request.extra["rows"])


def _name(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/records/{number}"


HANDLERS = {"count": count, "keys": keys, "upload": upload, "begin": begin, "again": again, "release": release}
