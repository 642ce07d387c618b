"""An audit of the mechanism itself: many short trainings with and without one chosen patient.

The released models must not differ more than the claimed noise allows. This looks for mistakes in the
code (too little noise, no clipping), so it may choose everything: few patients, and a canary whose
gradient is as large and as constant as clipping lets it be. It is a check, not a measure of risk.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.gradients import GradientEngine, engine_for
from pettoolkit.privacy.noise import Draw, Floats, SeededNoise
from pettoolkit.privacy.optimiser import Descent, DpTraining, PrivateRows, private_gradient

CANARY_SIZE = 20.0
"""Length of the canary's row: its gradient is many times longer than any other before clipping."""

FALSE_ALARMS = 1e-3
"""How often a correct mechanism may be accused, by the normal approximation."""

Train = Callable[[Tensor, Tensor, int], Params]
"""Trains on rows (n, d) and outcomes (n,) with the noise of a seed, and returns the released parameters."""


@dataclass(frozen=True)
class Audit:
    """Distance of the released models with and without the canary, in SDs: measured and claimed.

    ``low`` is a lower confidence limit of ``measured``; ``alarm`` says whether it exceeds the claim.
    """

    claimed: float
    measured: float
    low: float

    @property
    def alarm(self) -> bool:
        """Whether the mechanism gives away more than it claims."""
        return self.low > self.claimed


def audit(train: Train, net: DenseNet, claimed: float, *, runs: int, seed: int, patients: int = 20) -> Audit:
    """Train ``runs`` times with and ``runs`` times without the canary, and compare what was released.

    Parameters
    ----------
    train
        The mechanism under audit.
    claimed
        mu of its guarantee: sensitivity over SD of all steps together.
    seed
        Of the rows; run ``i`` trains with noise seeds derived from it, no two alike.
    patients
        Ordinary patients in the training rows.
    """
    draw = torch.Generator().manual_seed(seed)
    x = 0.1 * torch.randn(patients, net.n_features, generator=draw)
    y = (torch.rand(patients, generator=draw) < 0.5).float()
    canary = torch.zeros(1, net.n_features)
    canary[0, 0] = CANARY_SIZE
    x_in, y_in = torch.cat([x, canary]), torch.cat([y, torch.zeros(1)])

    # a canary with outcome 0 pushes its weight one way as long as it is predicted at all
    weight = "layer0.weight"
    first = 2 * seed * runs
    without = np.array([float(train(x, y, first + i)[weight][0, 0]) for i in range(runs)])
    with_it = np.array([float(train(x_in, y_in, first + runs + i)[weight][0, 0]) for i in range(runs)])
    return _compare(without, with_it, claimed)


def private_trainer(
    net: DenseNet, mechanism: Mechanism, training: DpTraining, patients: int, engine: GradientEngine | None = None
) -> Train:
    """Make the trainer that the platform uses, for :func:`audit`."""
    chosen = engine_for(net) if engine is None else engine
    start = net.init(0, prevalence=0.9)  # high scores, so that the canary's outcome 0 is a surprise that stays

    def train(x: Tensor, y: Tensor, seed: int) -> Params:
        rows = PrivateRows(chosen, x, y, SeededNoise(seed, "audit"))
        descent = Descent(start, training)
        for step in range(training.steps):
            draw = Draw("audit", step=step)
            descent.step(private_gradient(rows, descent.params, mechanism, patients, draw))
        return descent.params

    return train


def _compare(without: Floats, with_it: Floats, claimed: float) -> Audit:
    """Standardised difference of two samples (Cohen's d) with its normal lower limit (Hedges and Olkin 1985).

    It has a sign: the canary pushes its weight down. Without one, a mechanism that gives nothing away would be twice
    as often above any limit.
    """
    from scipy.stats import norm

    n = len(without)
    spread = math.sqrt((np.var(without, ddof=1) + np.var(with_it, ddof=1)) / 2)
    measured = float(np.mean(without) - np.mean(with_it)) / spread if spread > 0 else math.inf
    error = math.sqrt(2 / n + measured**2 / (4 * n))
    low = measured - float(norm.isf(FALSE_ALARMS)) * error if math.isfinite(measured) else math.inf
    return Audit(claimed, measured, low)
