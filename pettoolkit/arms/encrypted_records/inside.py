"""Encrypted records: every hospital uploads its rows encrypted, once; one of them refreshes the encrypted weights."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import vault
from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_records.descent import ahead
from pettoolkit.arms.encrypted_records.scheme import plan_of, scheme_of
from pettoolkit.encryption.keys import SecretKey
from pettoolkit.encryption.parameters import FLOODING_BITS
from pettoolkit.encryption.records import RecordsPlan, encrypt_rows, encrypt_weights, evaluation_keys, refresh
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays
from pettoolkit.records import RunSpec

Floats = npt.NDArray[np.float64]


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
    _take(site, request, key, plan)
    _, point = _state(site, request.spec, request.round)
    return _sealed(key, plan, point, request)


def release(site: Site, request: Request) -> Envelope:
    """The weights after the last step, flooded once."""
    spec = request.spec
    vault.released_here(site, spec)
    key, plan = _key_and_plan(site, request)
    _take(site, request, key, plan)
    arrays = vault.load(once(site.store, f"{spec.run_id}/records/released", lambda: _flooded(site, request, key, plan)))
    sd = float(arrays.pop("flooding_sd"))
    return Envelope("model", "release", Arrays(arrays, _rows(request)), {"flooding_sd": sd})


def design(site: Site, spec: RunSpec, share: int) -> tuple[Floats, Floats]:
    """This hospital's first ``share`` training rows in the seed's order, a leading 1 added, and their outcomes."""
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
        vault.count(site, key, 1)
        new, _ = refresh(key, plan, request.blobs[0], point)
        return vault.dump({"weights": new, "point": ahead(new, old, number)})

    once(site.store, _name(request.spec, request.round), step)


def _flooded(site: Site, request: Request, key: SecretKey, plan: RecordsPlan) -> bytes:
    weights, _ = _state(site, request.spec, request.round)
    ledger = vault.ledger_of(site, key)
    # What is decrypted has been multiplied, so its error is not that of a sum, for which the ledger's own SD is.
    sd = plan.flooding_sd(ledger.scheme.tau, FLOODING_BITS)
    noisy = ledger.release(request.spec.run_id, weights, gain=sd / ledger.scheme.flooding_sd).astype(np.float32)
    vault.keep(site, ledger)
    return vault.dump({"layer0.weight": noisy[None, 1:], "layer0.bias": noisy[:1], "flooding_sd": np.array(sd)})


def _sealed(key: SecretKey, plan: RecordsPlan, point: Floats, request: Request) -> Envelope:
    blob = encrypt_weights(key, plan, point)
    return Envelope("ciphertext", "training", Ciphertexts((blob,), _rows(request)))


def _key_and_plan(site: Site, request: Request) -> tuple[SecretKey, RecordsPlan]:
    contract = site.narrowed(request.spec)
    return vault.key_for(site, scheme_of(request.spec, contract)), plan_of(request.spec, contract, _rows(request))


def _state(site: Site, spec: RunSpec, number: int) -> tuple[Floats, Floats]:
    """Weights after a number of steps, and the point from which the next is taken."""
    if number == 0:
        weights = initial(site, spec)
        return weights, weights
    arrays = vault.stored(site, _name(spec, number), number)
    return arrays["weights"], arrays["point"]


def _rows(request: Request) -> int:
    return int(request.extra["rows"])


def _name(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/records/{number}"


HANDLERS = {"count": count, "keys": keys, "upload": upload, "begin": begin, "again": again, "release": release}
