from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from pettoolkit.attacks.audit import lower_limit
from pettoolkit.models.dense import DenseNet, Params
from pettoolkit.privacy.audit import Audit, _compare, audit, private_trainer
from pettoolkit.privacy.events import Mechanism, gaussian
from pettoolkit.privacy.gradients import ClippedSum, GradientEngine, VectorisedGradients
from pettoolkit.privacy.optimiser import DpTraining

NET = DenseNet(4)
STEPS, CLIP, SIGMA, PATIENTS = 3, 0.5, 1.5, 20
MECHANISM = gaussian(SIGMA, STEPS, CLIP)
MU = math.sqrt(STEPS) / SIGMA
RUNS, SEEDS = 40, 20


@dataclass
class Unclipped:
    """The mistake of an engine that ignores the clipping norm."""

    net: DenseNet
    name: str = "unclipped"

    def clipped_sum(
        self, params: Params, x: torch.Tensor, y: torch.Tensor, clip: float, patient: torch.Tensor | None = None
    ) -> ClippedSum:
        return VectorisedGradients(self.net).clipped_sum(params, x, y, math.inf, patient)


def audits(mechanism: Mechanism = MECHANISM, engine: GradientEngine | None = None) -> list[Audit]:
    train = private_trainer(NET, mechanism, DpTraining(STEPS, CLIP, 0.1), PATIENTS, engine)
    return [audit(train, NET, MU, runs=RUNS, seed=seed, patients=PATIENTS) for seed in range(SEEDS)]


def test_the_real_mechanism_raises_at_most_one_false_alarm_in_twenty() -> None:
    found = audits()
    assert sum(a.alarm for a in found) <= 1
    # and the canary does test it: what is measured comes close to the claim
    assert 0.85 * MU < np.mean([a.measured for a in found]) < 1.15 * MU


def test_a_tenth_of_the_noise_is_caught() -> None:
    assert sum(a.alarm for a in audits(gaussian(0.1 * SIGMA, STEPS, CLIP))) >= 19


def test_ignored_clipping_is_caught() -> None:
    assert sum(a.alarm for a in audits(engine=Unclipped(NET))) >= 19


def test_no_noise_at_all_is_caught() -> None:
    train = private_trainer(NET, gaussian(0.0, STEPS, CLIP), DpTraining(STEPS, CLIP, 0.1), PATIENTS)
    assert audit(train, NET, MU, runs=5, seed=0).alarm


def test_limits_of_a_mechanism_that_gives_nothing_away_are_exceeded_as_often_as_stated() -> None:
    # 95 % lower limit of mu = 0: above it in 5 % of 4,000 audits, within four binomial standard errors (.0034 each)
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((4000, 2, 50))
    above = [lower_limit(_compare(without, with_it, 0.0)) > 0 for without, with_it in draws]
    assert abs(np.mean(above) - 0.05) < 0.014
