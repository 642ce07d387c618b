"""From mechanisms to (epsilon, delta), and from a budget to the noise that spends it.

Full-batch Gaussian noise is accounted in closed form, Poisson-sampled noise by privacy loss distributions
(dp-accounting), zCDP by its tight conversion. Opacus' PRV accountant is the cross-check in the tests. All
figures are for adding or removing one patient unless ``adjacency`` says replacing one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.errors import BadInput
from pettoolkit.privacy.events import GAUSSIAN, SUBSAMPLED, ZCDP, Mechanism, gaussian, merged

ADD_REMOVE, REPLACE_ONE = "add_remove", "replace_one"
ADJACENCIES = (ADD_REMOVE, REPLACE_ONE)

POINTS, COARSE_POINTS, MOST_POINTS = 20_000, 2_000, 400_000
"""Into how many parts the privacy losses of one step are cut: a part is as fine as the losses are. Epsilon is the same
to 1e-4 as with ten times as many (sigma .2 to 20). The second is for the search for a starting point; where steps of
very different noise are composed, none is cut into more than the third."""

TAIL = 10.0
"""Losses of one step are looked at up to so many SDs of the noise: beyond lies a mass of exp(-50)."""

LARGEST_SAMPLED = 100.0
"""Beyond this a budget means nothing, and the search for its noise no end."""

DELTA_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""How delta may be divided between zCDP and sampled events; the best division is reported."""


def compose(mechanisms: Iterable[Mechanism], delta: float, adjacency: str = ADD_REMOVE) -> float:
    """Epsilon of everything together, at ``delta``; infinite if anything was released without noise.

    Works within a run as well as over runs on the same patients: mechanisms may be of any kinds and in any
    order, each chosen after seeing the answers of the ones before.
    """
    _check(delta, adjacency)
    events = merged(mechanisms)
    if any(m.sigma == 0 if m.kind != ZCDP else m.rho == math.inf for m in events):
        return math.inf
    mu_squared = rho = 0.0
    for m in events:
        factor = 1.0 if adjacency == ADD_REMOVE else m.replace_factor
        if m.kind == GAUSSIAN:
            mu_squared += m.steps * (factor / m.sigma) ** 2
        elif m.kind == ZCDP:
            rho += m.steps * m.rho * factor**2  # replacing: group privacy of zCDP (Bun and Steinke, Proposition 1.9)
    sampled = tuple((m.sigma, m.q, m.steps) for m in events if m.kind == SUBSAMPLED)
    mu = math.sqrt(mu_squared)
    if not sampled:
        # a mu-GDP Gaussian is mu^2/2-zCDP, so what is mixed adds up in rho
        return gaussian_epsilon(mu, delta) if rho == 0 else zcdp_epsilon(rho + mu_squared / 2, delta)
    if rho == 0:
        return _pld_epsilon(sampled, mu, delta, adjacency)
    return min(
        zcdp_epsilon(rho, delta * share) + _pld_epsilon(sampled, mu, delta * (1 - share), adjacency)
        for share in DELTA_SHARES
    )


def profile(mechanisms: Iterable[Mechanism], epsilons: Sequence[float]) -> npt.NDArray[np.float64]:
    """Delta of everything together at each epsilon, of Gaussian and sampled events (the privacy profile).

    Parameters
    ----------
    epsilons
        Sorted, none below 0.

    Raises
    ------
    BadInput
        If an event is known by its zCDP alone, which is no distribution of losses.
    """
    events = merged(mechanisms)
    if any(m.kind == ZCDP for m in events):
        raise BadInput("dp: a mechanism that is known by its zCDP alone has no privacy profile")
    sampled = tuple((m.sigma, m.q, m.steps) for m in events if m.kind == SUBSAMPLED)
    mu = math.sqrt(math.fsum(m.steps / m.sigma**2 for m in events if m.kind == GAUSSIAN))
    if not sampled:
        return np.array([gaussian_delta(mu, e) for e in epsilons])
    return np.asarray(_pld(sampled, mu, ADD_REMOVE).get_delta(list(epsilons)), dtype=np.float64)


def accountant_of(mechanisms: Iterable[Mechanism]) -> str:
    """Name the method by which :func:`compose` accounts for these mechanisms."""
    kinds = {m.kind for m in mechanisms}
    if SUBSAMPLED not in kinds:
        return "zCDP, tight conversion" if ZCDP in kinds else "Gaussian, closed form"
    return "PLD and zCDP" if ZCDP in kinds else "PLD"


def calibrate(epsilon: float, delta: float, steps: int, q: float = 1.0) -> float:
    """Noise multiplier that spends the budget over the whole run: never more, and at most 1 % less.

    Parameters
    ----------
    epsilon, delta
        The budget (add/remove).
    steps
        Number of noisy answers in the whole run.
    q
        Sampling probability of each step; 1 is the full batch, where sigma = sqrt(steps) / mu.
    """
    _check(delta, ADD_REMOVE)
    if not (math.isfinite(epsilon) and epsilon > 0):
        raise BadInput(f"dp.epsilon: must be greater than 0 (got {epsilon})")
    if steps < 1 or not 0 < q <= 1:
        raise BadInput(f"dp: steps must be 1 or more and the sampling probability in (0, 1] (got {steps}, {q})")
    if q < 1 and epsilon > LARGEST_SAMPLED:
        raise BadInput(
            f"dp.epsilon: Poisson batches are accounted up to epsilon {LARGEST_SAMPLED:g} (got {epsilon:g}); "
            "take less, or the full batch"
        )
    full = math.sqrt(steps) / gaussian_mu(epsilon, delta)
    return full if q == 1 else _calibrate_sampled(epsilon, delta, steps, q, full)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """Delta of Gaussian noise with sensitivity over SD ``mu``, at ``epsilon``.

    Balle and Wang 2018 (arXiv:1805.06530), Theorem 8:
    ``Phi(mu/2 - epsilon/mu) - exp(epsilon) Phi(-mu/2 - epsilon/mu)``.
    """
    from scipy.special import log_ndtr

    if mu == 0:
        return 0.0
    first, second = log_ndtr(mu / 2 - epsilon / mu), log_ndtr(-mu / 2 - epsilon / mu)
    return float(math.exp(first) * -math.expm1(min(0.0, epsilon + second - first)))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Epsilon of Gaussian noise with sensitivity over SD ``mu``: the inverse of :func:`gaussian_delta`."""
    if math.isinf(mu):
        return math.inf
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    return _falling_root(lambda e: gaussian_delta(mu, e) - delta, 0.0, mu**2 / 2 + mu * 2 + 1)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Largest sensitivity over SD that Gaussian noise may have to spend (epsilon, delta)."""
    mu = _falling_root(lambda m: delta - gaussian_delta(m, epsilon), 0.0, 1.0)
    return mu * (1 - 1e-10)  # on the safe side of the root


def zcdp_epsilon(rho: float, delta: float) -> float:
    """Epsilon of ``rho``-zCDP at ``delta``.

    Canonne, Kamath and Steinke 2020 (arXiv:2004.00010), Corollary 13: the minimum over alpha > 1 of
    ``alpha rho + log(1/(alpha delta)) / (alpha - 1) + log(1 - 1/alpha)``.
    """
    from scipy.optimize import minimize_scalar

    if rho == 0:
        return 0.0

    def bound(log_excess: float) -> float:
        excess = math.exp(log_excess)
        alpha = 1 + excess
        return alpha * rho - math.log(alpha * delta) / excess + math.log(excess / alpha)

    guess = 0.5 * math.log(math.log(1 / delta) / rho)
    found = minimize_scalar(bound, bracket=(guess - 1, guess + 1), tol=1e-12)
    return max(0.0, float(found.fun))


def zcdp_rho(epsilon: float, delta: float) -> float:
    """Largest rho of zCDP that spends at most (epsilon, delta): the inverse of :func:`zcdp_epsilon`."""
    return _falling_root(lambda rho: epsilon - zcdp_epsilon(rho, delta), 0.0, 1.0) * (1 - 1e-9)


def prv_epsilon(sigma: float, q: float, steps: int, delta: float) -> float:
    """Epsilon by Opacus' PRV accountant (Gopi et al. 2021, arXiv:2106.02848): a cross-check, not reported."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its RDP-based choice of the domain warns about orders and log(0)
        from opacus.accountants import PRVAccountant

        accountant = PRVAccountant()
        accountant.history = [(sigma, q, steps)]
        return float(accountant.get_epsilon(delta))


def _pld_epsilon(
    sampled: tuple[tuple[float, float, int], ...], mu: float, delta: float, adjacency: str, points: int = POINTS
) -> float:
    return float(_pld(sampled, mu, adjacency, points).get_epsilon(delta))


@lru_cache(maxsize=16)
def _pld(sampled: tuple[tuple[float, float, int], ...], mu: float, adjacency: str, points: int = POINTS) -> Any:
    """Compose the loss distributions; they do not depend on delta, and hold up to some millions of numbers."""
    from dp_accounting import dp_event
    from dp_accounting.pld import PLDAccountant
    from dp_accounting.privacy_accountant import NeighboringRelation

    relation = {ADD_REMOVE: NeighboringRelation.ADD_OR_REMOVE_ONE, REPLACE_ONE: NeighboringRelation.REPLACE_ONE}
    ranges = [_losses(1 / sigma) for sigma, _, _ in sampled] + ([_losses(mu)] if mu else [])
    grid = max(min(ranges) / points, max(ranges) / MOST_POINTS)
    accountant = PLDAccountant(relation[adjacency], grid)
    for sigma, q, steps in sampled:
        accountant.compose(dp_event.PoissonSampledDpEvent(q, dp_event.GaussianDpEvent(sigma)), steps)
    if mu:
        # mu is the sensitivity over SD under this adjacency already; replacing doubles it once more in there
        accountant.compose(dp_event.GaussianDpEvent((1 if adjacency == ADD_REMOVE else 2) / mu))
    return accountant


def _losses(mu: float) -> float:
    """Largest privacy loss worth looking at of one Gaussian answer with sensitivity over SD ``mu``."""
    return mu**2 / 2 + TAIL * mu


def _calibrate_sampled(epsilon: float, delta: float, steps: int, q: float, full: float) -> float:
    def spent(sigma: float, points: int) -> float:
        return _pld_epsilon(((sigma, q, steps),), 0.0, delta, ADD_REMOVE, points)

    low = high = full  # sampling only helps, so the full batch's noise is enough
    while spent(low, COARSE_POINTS) <= epsilon:
        high, low = low, low / 1.5
    for points, precision in ((COARSE_POINTS, 0.002), (POINTS, 0.006)):
        # coarse grids overstate: what is enough noise there is enough here, but less may be
        while spent(low, points) <= epsilon:
            high, low = low, low / 1.05
        while spent(high, points) < epsilon * (1 - precision):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if spent(middle, points) <= epsilon else (middle, high)
    return high


def _falling_root(function: Callable[[float], float], low: float, high: float) -> float:
    """Root of a falling function with ``function(low) > 0``; ``high`` is doubled until it is beyond the root."""
    from scipy.optimize import brentq

    while function(high) > 0:
        low, high = high, high * 2
    return float(brentq(function, low, high, xtol=1e-14, rtol=1e-13))


def _check(delta: float, adjacency: str) -> None:
    if not 0 < delta < 1:
        raise BadInput(f"dp.delta: must lie between 0 and 1 (got {delta})")
    if adjacency not in ADJACENCIES:
        raise BadInput(f"dp: unknown adjacency {adjacency}; use {' or '.join(ADJACENCIES)}")


def mechanism_for(
    epsilon: float, delta: float, steps: int, q: float = 1.0, sensitivity: float = 1.0, honest_sites: int = 1
) -> Mechanism:
    """Describe the mechanism, with all its steps, whose noise is calibrated to the budget."""
    return gaussian(calibrate(epsilon, delta, steps, q), steps, sensitivity, q, honest_sites)
