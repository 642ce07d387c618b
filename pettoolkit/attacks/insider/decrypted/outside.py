"""Outside: sums of rows, or steps on encrypted rows, as a hospital with the key decrypted them.

With differential privacy each hospital's part of the noise is in the sum. The insider takes off its own part of sums
and noise; what is left of the noise, whose SD is public, is the sum's uncertainty in :mod:`~.insider.sums`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from pettoolkit.arms.common import start
from pettoolkit.arms.encrypted_records.descent import ahead
from pettoolkit.arms.encrypted_records.scheme import plan_of
from pettoolkit.arms.encrypted_statistics import fit, noise
from pettoolkit.attacks.insider.hospitals import bound_of_sums, rows_of
from pettoolkit.attacks.insider.regression import as_update, cubic_steps, design, moments, of_others
from pettoolkit.attacks.insider.views import HOSPITAL, ObservedSum, SumsView, UpdatesView
from pettoolkit.attacks.protocol import NotRun, People, View
from pettoolkit.cohort.contract import Contract
from pettoolkit.encryption.matrix import NormalSums
from pettoolkit.encryption.packing import symmetric, upper_triangle
from pettoolkit.encryption.records import plain_step
from pettoolkit.models.training import Rows
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.noise import Draw, SeededNoise
from pettoolkit.records import Outcome, RunSpec, from_json

Floats = npt.NDArray[np.float64]

AGREES = 2e-3
"""Largest difference of a weight between the released model and the sums played again."""


@dataclass(frozen=True)
class Decrypted:
    """What the hospital ``own`` decrypted, less its own part, and the model that all sums together lead to."""

    own: str
    sums: tuple[ObservedSum, ...]
    weights: Floats


def regression_views(spec: RunSpec, contract: Contract, outcome_: Outcome, people: People) -> list[View]:
    """Two views of one hospital: all sums together, and each as an update that is read for records.

    Raises
    ------
    NotRun
        If the sums could not be played again.
    """
    if spec.arm == "encrypted_records":
        return views_of(spec, contract, outcome_, _steps(spec, contract, people))
    seen = statistics(spec, contract, people)
    released = outcome_.models.by_site["*"].unpack()
    model = np.concatenate([released["layer0.bias"], released["layer0.weight"][0]])
    apart = float(np.abs(model - seen.weights).max())
    if not apart <= AGREES:
        raise NotRun(f"the sums could not be played again (the models differ by {apart:.2g})")
    return views_of(spec, contract, outcome_, seen)


def views_of(spec: RunSpec, contract: Contract, outcome_: Outcome, seen: Decrypted) -> list[View]:
    """The views of what was decrypted."""
    net, initial = start(spec, contract)
    updates = tuple(as_update(s, len(seen.weights)) for s in seen.sums)
    mechanism = None
    if spec.dp is not None:
        mechanism = from_json(Mechanism, next(iter(outcome_.privacy.ledgers.values()))["mechanisms"][0])
    taken = "its own rows' part" if spec.dp is None else "its own part of rows and noise"
    together = SumsView(
        contract,
        holder=HOSPITAL,
        sums=seen.sums,
        bound=bound_of_sums(mechanism, len(spec.sites), outcome_.privacy),
        note=f"{seen.own}, which subtracts {taken} from what it decrypts",
    )
    read = UpdatesView(contract, net=net, start=initial, updates=updates, answer=None, others=seen.sums[0].sites)
    return [together, read]


def statistics(spec: RunSpec, contract: Contract, people: People) -> Decrypted:
    """Play the rounds of ``encrypted_statistics`` again, noise included."""
    rows = rows_of(spec.sites, contract, people)
    own = max(sorted(rows), key=lambda site: len(rows[site]))
    others = tuple(site for site in sorted(rows) if site != own)
    scale = 1.0 if spec.dp is None else noise.scale_of(spec)
    sd = 0.0 if spec.dp is None else noise.sd_of_sum(spec) / np.sqrt(len(spec.sites))  # of one hospital's part

    def usable(x: Tensor) -> Floats:
        return design(x) if spec.dp is None else noise.clipped(design(x), float(spec.options["clip"])) * scale

    weights, sums = _beginning(spec, contract), []
    for number in range(1, int(spec.options["rounds"]) + 1):
        parts = {site: _part(spec, site, number, usable(r.x), r, weights / scale, sd) for site, r in rows.items()}
        share = moments(weights / scale, logistic=spec.options["method"] == "newton", usable=usable)
        observed = np.sum([parts[site] for site in others], axis=0)
        sums.append(ObservedSum(others, observed, share, len(others) * sd**2))
        total = _unpacked(np.sum(list(parts.values()), axis=0), len(weights), sum(map(len, rows.values())))
        weights = (fit if spec.dp is None else noise).step(spec, total, weights)["weights"]
    return Decrypted(own, tuple(sums), weights)


def _part(spec: RunSpec, site: str, number: int, x: Floats, rows: Rows, weights: Floats, sd: float) -> Floats:
    """One hospital's part of a round's sum, as :mod:`pettoolkit.arms.encrypted_statistics.inside` sent it."""
    exact = fit.sums(spec, x, rows.y.double().numpy(), weights)
    values: Floats = np.concatenate([upper_triangle(exact.gram), exact.moment])
    if spec.dp is None:
        return values
    drawn = SeededNoise(spec.seed, site, spec.dp.noise).normals(Draw("statistics", number, 0), len(values))
    return np.asarray(values + sd * drawn)


def _unpacked(values: Floats, features: int, patients: int) -> NormalSums:
    size = len(values) - features
    return NormalSums(symmetric(values[:size], features), values[size:], float(patients))


def _beginning(spec: RunSpec, contract: Contract) -> Floats:
    _, initial = start(spec, contract)
    weights: Floats = np.concatenate(
        [initial["layer0.bias"].numpy(), initial["layer0.weight"][0].numpy()], dtype=np.float64
    )
    return weights


def _steps(spec: RunSpec, contract: Contract, people: People) -> Decrypted:
    """Play the steps of ``encrypted_records`` again."""
    rows: Mapping[str, Rows] = rows_of(spec.sites, contract, people)
    x = np.concatenate([design(r.x) for r in rows.values()])
    y = np.concatenate([r.y.double().numpy() for r in rows.values()])
    plan, weights, shares = plan_of(spec, contract, len(x)), _beginning(spec, contract), []
    point = weights
    for number in range(1, int(spec.options["iterations"]) + 1):
        shares.append(cubic_steps(point, plan.sigmoid))
        new = plain_step(plan, x, y, point)
        weights, point = new, ahead(new, weights, number)
    return Decrypted(min(rows), of_others(rows, min(rows), shares), weights)
