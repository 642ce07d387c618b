"""Encrypted statistics: the hospital encrypts its sums, and takes Newton's step on the decrypted sum of all."""

from __future__ import annotations

import time

import numpy as np
import numpy.typing as npt

from pettoolkit.arms import vault
from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_statistics import fit, noise
from pettoolkit.arms.encrypted_statistics.scheme import CLIP, columns, scheme_of
from pettoolkit.arms.private import check_total, count, ledger_summary
from pettoolkit.encryption.ckks import coarse, encrypt
from pettoolkit.encryption.matrix import NormalSums
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Ciphertexts, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.training import to_arrays
from pettoolkit.records import RunSpec

Floats = npt.NDArray[np.float64]


def contribute(site: Site, request: Request) -> Envelope:
    """This hospital's sums at the weights of the round before, encrypted."""
    spec, number = request.spec, request.round
    key = vault.key_for(site, spec, scheme_of(spec, site.narrowed(spec)))
    patients = _patients(site, request)
    if spec.dp is not None:
        check_total(site, patients, site.training_patients(spec)[1])
        noise.check_room(site, spec, patients, CLIP)
    rows, weights = design(site, spec), _weights(site, spec, number - 1)
    if spec.dp is None:
        packed = fit.sums(spec, *rows, weights).pack(patients)
    else:
        packed = noise.answer(site, spec, number, rows, weights).pack(patients, limit=CLIP)
    began = time.perf_counter()
    blobs = encrypt(key, packed, f"{_label(spec, number)}/{patients}", site.name)
    seconds = time.perf_counter() - began
    return Envelope("ciphertext", "training", Ciphertexts(tuple(blobs), len(rows[1])), {"encrypt_seconds": seconds})


def apply(site: Site, request: Request) -> Envelope:
    """Decrypt the sum of a round and take the step here; nothing of either leaves."""
    began = time.perf_counter()
    _patients(site, request)
    once(site.store, _label(request.spec, request.round), lambda: _step(site, request))
    return Envelope("metrics", "training", Figures({"decrypt_seconds": time.perf_counter() - began}))


def release(site: Site, request: Request) -> Envelope:
    """Weights, standard errors and the length of the last step, flooded once and together."""
    spec = request.spec
    vault.released_here(site, spec)
    data = once(site.store, f"{spec.run_id}/statistics/released", lambda: _flooded(site, spec))
    arrays = vault.load(data)
    figures = {name: float(arrays.pop(name)) for name in ("flooding_sd", "max_error")}
    return Envelope("model", "release", Arrays(arrays, site.training_patients(spec)[1]), figures)


def design(site: Site, spec: RunSpec) -> tuple[Floats, Floats]:
    """Training rows with a leading 1, shape (n, 1 + features), and outcomes, shape (n,)."""
    rows = site.part(spec, "train")
    x = rows.x.numpy().astype(np.float64)
    return np.hstack([np.ones((len(x), 1)), x]), rows.y.numpy().astype(np.float64)


def _step(site: Site, request: Request) -> bytes:
    spec, number, patients = request.spec, request.round, int(request.extra["patients"])
    contract = site.narrowed(spec)
    if not 1 <= number <= int(spec.options["rounds"]):
        raise Refused(f"hospital {site.name}: this run has {spec.options['rounds']} rounds, {number} is none of them")
    key = vault.key_for(site, spec, scheme_of(spec, contract))
    name = _label(spec, number)
    found = vault.opened(site, spec, key, request.blobs, f"{name}/{patients}", name)
    sums = NormalSums.unpack(found.values, columns(contract), patients)
    if round(sums.rows) != patients:
        vault.refuse(
            site, name, f"hospital {site.name}: the sum does not hold the {patients} patients that were counted"
        )
    before = _weights(site, spec, number - 1)
    fitted = (fit if spec.dp is None else noise).step(spec, sums, before)
    return vault.dump({**fitted, "error": np.array(found.error)})


def _flooded(site: Site, spec: RunSpec) -> bytes:
    key = vault.key_for(site, spec, scheme_of(spec, site.narrowed(spec)))
    last = int(spec.options["rounds"])
    exact = fit.released(spec, vault.stored(site, _label(spec, last), last))
    noisy = vault.flooded(site, spec, key, exact.values / exact.gains, lambda scheme: scheme.flooding_sd)
    sd = noisy.sd * float(exact.gains.max())
    seen = max(float(vault.stored(site, _label(spec, n), n)["error"]) for n in range(1, last + 1))
    return vault.dump(
        {**exact.named(noisy.values * exact.gains), "flooding_sd": np.array(sd), "max_error": np.array(coarse(seen))}
    )


def _patients(site: Site, request: Request) -> int:
    """Public number of training patients of all hospitals, that with which the run began."""
    return vault.fixed(site, request.spec, "patients", int(request.extra["patients"]))


def _weights(site: Site, spec: RunSpec, number: int) -> Floats:
    """Intercept and weights after ``number`` rounds."""
    if number == 0:
        initial = to_arrays(start(spec, site.narrowed(spec))[1])
        return np.concatenate([initial["layer0.bias"], initial["layer0.weight"][0]], dtype=np.float64)
    weights: Floats = vault.stored(site, _label(spec, number), number)["weights"]
    return weights


def _label(spec: RunSpec, number: int) -> str:
    return f"{spec.run_id}/statistics/{number}"


HANDLERS = {
    "count": count,
    "contribute": contribute,
    "apply": apply,
    "release": release,
    "ledger": ledger_summary,
}
