"""Differential privacy for encrypted sums: rows clipped to a public norm, noise shared out over the hospitals.

Rows are clipped to the norm ``clip`` and scaled by a public number to at most R.
A patient of row x with |x| <= R (the leading 1 included) and outcome y changes ``X'WX`` by ``p (1 - p) x x'``, at most
R^2/4 in Frobenius norm, hence no more in the upper triangle that travels, and ``X'(y - p)`` by at most R: together at
most ``sqrt(R^4/16 + R^2)``. ``X'X`` changes by at most R^2 and ``X'y`` by R: together ``sqrt(R^4 + R^2)``. The number
of patients is public and gets no noise. What hospitals do with the noisy sum is post-processing.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch

from pettoolkit.arms import private
from pettoolkit.arms.encrypted_statistics import fit
from pettoolkit.arms.private import budget_of
from pettoolkit.encryption.matrix import NormalSums
from pettoolkit.encryption.packing import symmetric, upper_triangle
from pettoolkit.errors import Refused
from pettoolkit.hospital.accounts import ledger_of, noise_of
from pettoolkit.hospital.site import Site
from pettoolkit.privacy import conditions
from pettoolkit.privacy.accounting import mechanism_for
from pettoolkit.privacy.events import Identity, Mechanism, input_hash
from pettoolkit.privacy.ledger import Budget
from pettoolkit.privacy.noise import Draw, site_sd
from pettoolkit.records import RunSpec

Floats = npt.NDArray[np.float64]

UNIT = {"newton": None, "one_shot": 1.0}
"""Norm R to which rows are scaled after clipping (None: left as they are). At R = 1 the noise on X'y is no larger than
that on X'X, which one_shot needs; scaling by a public number changes no fit."""

RIDGE = {"newton": 1.0, "one_shot": 2.0}
"""Ridge added under noise, in spectral norms of a noise matrix over two; chosen on simulated hospitals."""

LARGEST = 1e150
"""Larger weights are refused: times a row of any norm they might be infinite, and a sum of such products no number."""


def sensitivity(method: str, norm: float) -> float:
    """Largest L2 change of the sums by one patient whose row has at most this norm."""
    return math.sqrt(norm**4 / (16 if method == "newton" else 1) + norm**2)


def mechanism_of(spec: RunSpec) -> Mechanism:
    """The noise that spends the run's budget over all rounds."""
    dp = budget_of(spec)
    change = sensitivity(str(spec.options["method"]), float(spec.options["clip"]) * scale_of(spec))
    honest = dp.honest_sites or len(spec.sites)
    return _calibrated(dp.epsilon, dp.delta, int(spec.options["rounds"]), change, honest)


def scale_of(spec: RunSpec) -> float:
    """Public number by which clipped rows are multiplied."""
    unit = UNIT[str(spec.options["method"])]
    return 1.0 if unit is None else unit / float(spec.options["clip"])


def sd_of_sum(spec: RunSpec) -> float:
    """SD of the noise on each number of the sum of all hospitals; public."""
    plan = mechanism_of(spec)
    return _sd_here(plan) * math.sqrt(len(spec.sites))


def clipped(x: Floats, norm: float) -> Floats:
    """Rows scaled down to at most this norm, zero where a row's norm is not finite; x (n, d)."""
    lengths = np.linalg.norm(x, axis=1, keepdims=True)
    shorter: Floats = x * np.minimum(1.0, norm / np.maximum(lengths, 1e-12))
    return np.where(np.isfinite(lengths), shorter, 0.0)


def check_room(site: Site, spec: RunSpec, patients: int, limit: float) -> None:
    """Refuse a budget whose noise leaves the range ``limit`` of the encryption; see :func:`private.check_room`."""
    _, here = site.training_patients(spec)
    entry = min(1.0, float(spec.options["clip"])) * scale_of(spec)  # features lie in [-1, 1]
    private.check_room(site, spec, here * max(entry, entry**2), _sd_here(mechanism_of(spec)), limit * patients)


def answer(site: Site, spec: RunSpec, number: int, rows: tuple[Floats, Floats], weights: Floats) -> NormalSums:
    """This hospital's noisy sums of a round: refused, stored or computed, as its ledger says.

    Raises
    ------
    Refused
        If the budget does not allow it, a patient has several rows, or the weights can't be used with any row.
    """
    if not (np.abs(weights) <= LARGEST).all():  # before rows are read: what no row could bring about tells of none
        raise Refused(f"hospital {site.name}: the weights of the round before are not finite, or beyond {LARGEST:g}")
    dp, plan = budget_of(spec), mechanism_of(spec)
    patient, patients = site.training_patients(spec)
    conditions.check(dp, sites=len(spec.sites), patients=patients, patient_known=site.patients_known)
    if patient is not None:
        raise Refused(
            f"hospital {site.name}: a patient has several rows, and encrypted sums clip rows, not patients; "
            "use one row per patient, or arm: encrypted_aggregation"
        )
    scale = scale_of(spec)
    x, y = clipped(rows[0], float(spec.options["clip"])) * scale, rows[1]
    noise = noise_of(site, spec.seed, dp.noise)
    d = x.shape[1]
    size = d * (d + 1) // 2

    def make(attempt: int) -> bytes:
        exact = fit.sums(spec, x, y, weights / scale)
        values = np.concatenate([upper_triangle(exact.gram), exact.moment])
        values += _sd_here(plan) * noise.normals(Draw("statistics", number, attempt), len(values))
        return bytes(values.tobytes())

    settings = {key: spec.options[key] for key in ("method", "clip")}
    given = input_hash({"weights": torch.from_numpy(weights)}, sites=len(spec.sites), **settings)
    identity = Identity(spec.run_id, site.name, number, "statistics", given)
    ledger = ledger_of(site, spec.run_id, Budget(dp.epsilon, dp.delta), plan)
    noisy = np.frombuffer(ledger.answer(identity, plan.times(1), make, simulated=noise.simulated), dtype=np.float64)
    return NormalSums(symmetric(noisy[:size].copy(), d), noisy[size:].copy(), float(len(y)))


def step(spec: RunSpec, total: NormalSums, weights: Floats) -> dict[str, Floats]:
    """Fit of a round from noisy sums, for rows as they were before scaling; see :func:`fit.step`."""
    scale = scale_of(spec)
    clean = floored(total)
    unscaled = NormalSums(clean.gram / scale**2, clean.moment / scale, clean.rows)
    fitted = fit.step(spec, unscaled, weights, ridge_against_noise(spec, len(weights)) / scale**2)
    return fitted | {"gains": fitted["gains"] / scale**2}


def floored(total: NormalSums) -> NormalSums:
    """The noisy sum, its matrix (symmetric already) floored: a sum of squares has no eigenvalue below zero."""
    values, vectors = np.linalg.eigh(total.gram)
    return NormalSums((vectors * np.maximum(values, 0.0)) @ vectors.T, total.moment, total.rows)


def ridge_against_noise(spec: RunSpec, features: int) -> float:
    """Penalty that keeps directions of mere noise small: the noise matrix has norm 2 sd sqrt(d) (Wigner)."""
    return RIDGE[str(spec.options["method"])] * sd_of_sum(spec) * math.sqrt(features)


@lru_cache(maxsize=64)
def _calibrated(epsilon: float, delta: float, rounds: int, change: float, honest: int) -> Mechanism:
    return mechanism_for(epsilon, delta, rounds, 1.0, change, honest)


def _sd_here(plan: Mechanism) -> float:
    return site_sd(plan.sigma, plan.sensitivity, "shared", plan.honest_sites)
