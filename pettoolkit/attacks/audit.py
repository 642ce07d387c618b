"""A lower bound on epsilon, found from outside: trainings with and without one canary, in a copy of the cell.

The copy has the cell's steps, clipping, rate and noise, and the platform's own private training; its patients are few
and made up, so that nobody real is in it and the cell's budget is not touched. The canary's row is the worst there can
be. If its presence shows more than the claimed noise allows, the mechanism is wrong; how large a mistake would be
noticed (the audit's power) stands beside it. A lower bound far below the claim proves nothing: audits are loose.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from statistics import NormalDist

from pettoolkit.attacks.models.ranked import AUC
from pettoolkit.attacks.protocol import Effort, Exact, Finding, NotApplicable, finding
from pettoolkit.attacks.protocol import View as _View
from pettoolkit.models.dense import DenseNet
from pettoolkit.privacy.accounting import compose
from pettoolkit.privacy.audit import FALSE_ALARMS, Audit, audit, private_trainer
from pettoolkit.privacy.bounds import gaussian_bound
from pettoolkit.privacy.events import GAUSSIAN, Mechanism, gaussian
from pettoolkit.privacy.optimiser import DpTraining
from pettoolkit.records import Interval

STEPS = {"quick": 20_000, "full": 100_000}
"""Steps of all trainings together."""

FEWEST, MOST = 25, 500
"""Trainings with, and as many without, the canary."""

CANARY = "canary"
"""Stands where figures name their hospital: one made-up patient, whom no verdict counts."""

PATIENTS = 20
HALF_THE_NOISE = 2.0
"""The mistake for which the power is given: mu is twice what is claimed."""


class _Audited:
    name = "audit"
    knowledge = "full"
    sees = _View

    def run(self, view: object, people: object, effort: Effort) -> list[Finding]:
        raise NotApplicable("the audit has a view of its own")


def audited(features: int, mechanism: Mechanism, training: DpTraining, delta: float, effort: Effort) -> Finding:
    """Audit the training of a cell, on logistic regression: a hidden layer would only hide the canary.

    Parameters
    ----------
    features
        Encoded features of the cell.
    mechanism
        All steps of the cell, as its ledger has them.
    delta
        At which epsilon is stated.

    Raises
    ------
    NotApplicable
        For sampled batches, whose noise the canary does not meet in each step.
    """
    if mechanism.kind != GAUSSIAN:
        raise NotApplicable("the audit is for full batches")
    began = time.perf_counter()
    claimed = math.sqrt(mechanism.steps) / mechanism.sigma
    runs = min(MOST, max(FEWEST, STEPS.get(effort.name, STEPS["full"]) // (2 * training.steps)))
    net = DenseNet(features)
    train = private_trainer(net, mechanism, training, PATIENTS + 1)
    found = audit(train, net, claimed, runs=runs, seed=effort.seed, patients=PATIENTS)
    low = lower_limit(found)
    details = {
        "epsilon_claimed": epsilon_of(claimed, delta),
        "epsilon_lower_bound": epsilon_of(low, delta),
        "power_against_half_the_noise": power(claimed, runs),
        "trainings": 2.0 * runs,
        **({"alarm": 1.0} if found.alarm else {}),
    }
    bound = gaussian_bound(claimed).auc
    made = finding(
        _Audited(),
        AUC,
        Exact(_auc(found.measured), patients=1, achieved=2 * runs, control=0.5),
        wanted=2 * runs,
        seconds=time.perf_counter() - began,
        bound=bound,
        site=CANARY,
        details=details,
        note=_said(found, details),
    )
    interval = Interval(2 * _auc(low) - 1, 1.0)
    return replace(made, figure=replace(made.figure, interval=interval))


def epsilon_of(mu: float, delta: float) -> float:
    """Epsilon of a Gaussian mechanism whose sensitivity over SD is ``mu``; 0 if that is not above 0."""
    return compose([gaussian(1 / mu)], delta) if mu > 0 else 0.0


def lower_limit(found: Audit) -> float:
    """95 % lower limit of what was measured; the alarm asks for more (:data:`FALSE_ALARMS`)."""
    normal = NormalDist()
    error = (found.measured - found.low) / normal.inv_cdf(1 - FALSE_ALARMS)
    return found.measured - normal.inv_cdf(0.95) * error


def power(claimed: float, runs: int) -> float:
    """Probability that a mechanism with half the claimed noise raises the alarm, by the normal approximation."""
    normal, true = NormalDist(), HALF_THE_NOISE * claimed
    error = math.sqrt(2 / runs + true**2 / (4 * runs))
    return normal.cdf((true - claimed) / error - normal.inv_cdf(1 - FALSE_ALARMS))


def _auc(mu: float) -> float:
    return NormalDist().cdf(min(mu, 30.0) / math.sqrt(2))


def _said(found: Audit, details: dict[str, float]) -> str:
    said = (
        f"epsilon at least {details['epsilon_lower_bound']:.2g} of {details['epsilon_claimed']:.3g} claimed "
        f"({details['trainings']:.0f} trainings of a copy; half the noise would be noticed with probability "
        f"{details['power_against_half_the_noise']:.2f})"
    )
    return f"ALARM: {said}" if found.alarm else said
