"""What a guarantee means: the best any attacker can do, and what is left of it if parties collude."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pettoolkit.privacy.accounting import compose, profile
from pettoolkit.privacy.events import GAUSSIAN, SUBSAMPLED, Mechanism

Floats = npt.NDArray[np.float64]

LOW_FPR = 0.01
"""The false-positive rate at which attackers are compared: one false accusation in a hundred."""

EPSILONS, SMALLEST_DELTA, CELLS = 400, 1e-7, 20_000
"""A privacy profile is read at so many epsilons, up to where delta is next to nothing; its area is of so many cells."""


@dataclass(frozen=True)
class AttackBound:
    """No test for "was this patient in the data?" does better than this, whatever the attacker knows."""

    auc: float
    tpr_at_1pct_fpr: float
    basis: str


def gaussian_bound(mu: float) -> AttackBound:
    """Bound for Gaussian noise with sensitivity over SD ``mu`` (all steps together).

    Dong, Roth and Su 2019 (arXiv:1905.02383): TPR = Phi(Phi^-1(FPR) + mu), hence AUC = Phi(mu / sqrt(2)).
    """
    normal = NormalDist()
    tpr = normal.cdf(normal.inv_cdf(LOW_FPR) + mu)
    return AttackBound(normal.cdf(mu / math.sqrt(2)), tpr, "Gaussian mechanism")


def generic_bound(epsilon: float, delta: float) -> AttackBound:
    """Bound for any (epsilon, delta) mechanism.

    Kairouz, Oh and Viswanath 2015 (arXiv:1311.0776): TPR <= e^epsilon FPR + delta and
    TPR <= 1 - e^-epsilon (1 - delta - FPR); the AUC is the area under the lower of the two lines.
    """
    grow = math.exp(min(epsilon, 700.0))  # e^700 is as good as infinite, and still a float
    tpr = min(1.0, grow * LOW_FPR + delta, 1 - (1 - delta - LOW_FPR) / grow)
    corner = (1 - delta) / (1 + grow)  # where the lines meet: FPR = corner, TPR = 1 - corner
    auc = corner * (delta + 1 - corner) / 2 + (1 - delta - corner) * (2 - corner) / 2 + delta
    return AttackBound(auc, tpr, "any (epsilon, delta) mechanism")


def profile_bound(mechanisms: Iterable[Mechanism]) -> AttackBound:
    """Bound for Poisson samples, by themselves or with full batches: that of the mechanism, not of one epsilon of it.

    A mechanism is (epsilon, delta(epsilon))-private for every epsilon at once, so each of these pairs draws its two
    lines (:func:`generic_bound`), and the attacker is below all of them: TPR <= the least e^epsilon FPR +
    delta(epsilon), and the same read the other way round. With all epsilons that is the trade-off curve itself
    (Dong, Roth and Su 2019, arXiv:1905.02383, Proposition 2.12); delta(epsilon) comes from the privacy loss
    distribution, which dominates all pairs of neighbours (Zhu, Dong and Wang 2022, arXiv:2106.08567). Taken at
    :data:`EPSILONS` epsilons and as a sum of midpoints under a concave curve, it is a bound still.
    """
    events = tuple(mechanisms)
    epsilons = np.linspace(0.0, compose(events, SMALLEST_DELTA), EPSILONS)
    deltas = profile(events, epsilons.tolist())
    area = np.mean(_tpr((np.arange(CELLS) + 0.5) / CELLS, epsilons, deltas))
    return AttackBound(
        float(area), float(_tpr(np.array([LOW_FPR]), epsilons, deltas)[0]), "privacy profile of the mechanism, PLD"
    )


def _tpr(fpr: Floats, epsilons: Floats, deltas: Floats) -> Floats:
    """Lowest of all lines at each false-positive rate, shape of ``fpr``."""
    lowest = np.ones_like(fpr)
    for grow, delta in zip(np.exp(epsilons), deltas, strict=True):
        lowest = np.minimum(lowest, np.minimum(grow * fpr + delta, 1 - (1 - delta - fpr) / grow))
    return lowest


def attack_bound(mechanisms: Iterable[Mechanism], delta: float) -> AttackBound:
    """Bound for what was spent: the mechanism's own, or the generic one where no more than its epsilon is known."""
    events = tuple(mechanisms)
    if all(m.kind == GAUSSIAN and m.sigma > 0 for m in events):
        return gaussian_bound(math.sqrt(math.fsum(m.steps / m.sigma**2 for m in events)))
    if all(m.kind in (GAUSSIAN, SUBSAMPLED) and m.sigma > 0 for m in events):
        return profile_bound(events)
    return generic_bound(compose(events, delta), delta)


def epsilon_if_sites_collude(mechanisms: Iterable[Mechanism], delta: float, sites: int) -> dict[str, float]:
    """Epsilon of shared noise against c hospitals that subtract their own parts from the published sums.

    Parameters
    ----------
    mechanisms
        Events whose ``honest_sites`` shared the noise.
    sites
        How many hospitals added a part, each with variance sigma^2 / honest_sites.

    Returns
    -------
    dict
        ``{"1": epsilon, ..}`` for c = 1 .. sites - 1. Up to ``sites - honest_sites`` it is the epsilon claimed.
    """
    events = tuple(mechanisms)
    return {
        str(c): compose([m.quieter(min(1.0, math.sqrt((sites - c) / m.honest_sites))) for m in events], delta)
        for c in range(1, sites)
    }


def epsilon_if_coordinator_and_site_collude(mechanisms: Iterable[Mechanism], delta: float) -> float:
    """Epsilon of shared noise if the coordinator gets the key from any one hospital.

    It can then read each hospital's update, which carries only its own part of the noise, SD sigma /
    sqrt(honest_sites): mu grows by sqrt(honest_sites).
    """
    return compose([m.quieter(1 / math.sqrt(m.honest_sites)) for m in mechanisms], delta)
