"""Evidence of an attack that ranks patients: AUC, or true-positive rate at a low false-positive rate."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pettoolkit.attacks.statistics import LEVEL, Ints, Rate, excess, half_of, wilson
from pettoolkit.records import Interval

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

AUC, TPR = "membership_auc", "membership_tpr_at_1pct_fpr"
LOW_FPR = 0.01
RESAMPLES = 400
ROUNDING = 1e-12


@dataclass(frozen=True)
class Ranked:
    """Scores of targets in one or several attacked models.

    Parameters
    ----------
    score, inside
        Shape (models, targets): the attack's score, and whether the target was in that model's training rows.
    patient
        Shape (targets,): distinct numbers.
    measure
        :data:`AUC` or :data:`TPR`; means over the models.
    fpr
        For :data:`TPR`.
    """

    score: Floats
    inside: Bools
    patient: Ints
    measure: str = AUC
    fpr: float = LOW_FPR
    seed: int = 0

    @property
    def success(self) -> float:
        """AUC or true-positive rate."""
        return float(self._values(np.ones((self.score.shape[1], 1)))[:, 0].mean())

    @property
    def control(self) -> float:
        """What guessing achieves."""
        return 0.5 if self.measure == AUC else self.fpr

    @property
    def patients(self) -> int:
        """Members attacked: targets who were in any of the attacked models."""
        return int(self.inside.any(0).sum())

    @property
    def achieved(self) -> int:
        """Attacks on members, over all models."""
        return int(self.inside.sum())

    def interval(self, level: float = LEVEL) -> Interval:
        """Of the excess: Bayesian bootstrap (Rubin 1981) over patients and models.

        The distances from the figure to the 95 % percentiles are stretched as a normal's would be; far percentiles
        of a few hundred resamples are noise. A true-positive rate's interval holds its Wilson interval too: of no
        success at all a bootstrap says that it is certain. Where its threshold lies, few non-members say badly: the
        lower end is drawn with one more non-member above all scores, the upper end with one more below all. Between
        the gaps of so many scores the curve may be anything that rises (the gaps' masses are Dirichlet's; Wilks 1962,
        Mathematical Statistics, 8.7), and with few non-members the lower end is 0.
        """
        value = self.success
        low, high = (
            float(np.quantile(self._draws(end), q)) for end, q in ((-1, (1 - LEVEL) / 2), (1, (1 + LEVEL) / 2))
        )
        stretch = _z(level) / _z(LEVEL)
        low, high = value - stretch * max(0.0, value - low), value + stretch * max(0.0, high - value)
        if self.measure == TPR:
            plain = wilson(Rate(value, self.patients), level)
            low, high = min(low, plain.low), max(high, plain.high)
        return Interval(excess(max(0.0, low), self.control), excess(min(1.0, high), self.control))

    def success_low(self, level: float = LEVEL) -> float:
        """Lower end of the success's own interval."""
        return self.control + self.interval(level).low * (1 - self.control)

    def half(self, number: int) -> Ranked:
        """See :meth:`pettoolkit.attacks.protocol.Evidence.half`."""
        return self.of(half_of(self.patient) == number)

    def of(self, targets: Bools) -> Ranked:
        """The same for some of the targets."""
        return Ranked(
            self.score[:, targets], self.inside[:, targets], self.patient[targets], self.measure, self.fpr, self.seed
        )

    @property
    def usable(self) -> bool:
        """Whether every attacked model has targets of both kinds."""
        return bool(len(self.patient)) and bool((self.inside.any(1) & ~self.inside.all(1)).all())

    @cached_property
    def _drawn(self) -> dict[int, Floats]:
        return {}

    def _draws(self, end: int) -> Floats:
        """Resampled means over the models, (b,), for the lower (-1) or upper (1) end; of an AUC they are the same."""
        end = 0 if self.measure == AUC else end
        if end not in self._drawn:
            rng = np.random.default_rng([self.seed, 1])
            weights = rng.exponential(size=(self.score.shape[1], RESAMPLES))
            values = self._values(weights, end, rng)
            models = rng.exponential(size=values.shape)
            self._drawn[end] = (values * models).sum(0) / models.sum(0)
        return self._drawn[end]

    def _values(self, weights: Floats, end: int = 0, rng: np.random.Generator | None = None) -> Floats:
        """AUC or rate of each model under each column of weights; weights (targets, b) -> (models, b)."""
        out = []
        for score, inside in zip(self.score, self.inside, strict=True):
            if self.measure == AUC:
                out.append(weighted_auc(score, inside, weights))
            elif not end or rng is None:
                out.append(weighted_tpr(score, inside, weights, self.fpr))
            else:
                more = np.vstack([weights, rng.exponential(size=(2, weights.shape[1]))])
                beyond = np.append(score, [-end * np.inf, end * np.inf])  # a non-member and a member
                out.append(weighted_tpr(beyond, np.append(inside, [False, True]), more, self.fpr))
        return np.stack(out)


def weighted_auc(score: Floats, inside: Bools, weights: Floats) -> Floats:
    """AUC of members against others, ties counting half, per column of weights; .5 if either is missing."""
    if not inside.any() or inside.all():
        return np.full(weights.shape[1], 0.5)
    order = np.argsort(score[~inside], kind="stable")
    ranked, mass = score[~inside][order], weights[~inside][order]
    below = np.zeros((len(mass) + 1, weights.shape[1]))
    np.cumsum(mass, axis=0, out=below[1:])
    left = np.searchsorted(ranked, score[inside], side="left")
    right = np.searchsorted(ranked, score[inside], side="right")
    mine = weights[inside]
    total: Floats = (mine * (below[left] + below[right]) / 2).sum(0) / (mine.sum(0) * below[-1])
    return total


def weighted_tpr(score: Floats, inside: Bools, weights: Floats, fpr: float) -> Floats:
    """Share of members above the threshold that a share ``fpr`` of the others exceeds, per column of weights.

    Between two steps of the curve the rate is interpolated, so that with few non-members the false-positive rate is
    ``fpr`` all the same.
    """
    if not inside.any() or inside.all():
        return np.full(weights.shape[1], fpr)
    order = np.argsort(-score[~inside], kind="stable")
    ranked, first = np.unique(-score[~inside][order], return_index=True)  # ascending in minus the score
    mass = np.add.reduceat(weights[~inside][order], first, axis=0)
    false = np.cumsum(mass, axis=0) / mass.sum(0)
    mine = np.argsort(-score[inside], kind="stable")
    member, true = -score[inside][mine], weights[inside][mine]
    above = np.zeros((len(true) + 1, weights.shape[1]))
    np.cumsum(true / true.sum(0), axis=0, out=above[1:])
    columns = np.arange(weights.shape[1])
    # the score of non-members with which fpr is exceeded: between the corners before and after it the curve is straight
    step = np.minimum((false <= fpr + ROUNDING).sum(0), len(ranked) - 1)
    before = np.where(step > 0, false[np.maximum(step - 1, 0), columns], 0.0)
    low = above[np.searchsorted(member, ranked[step], side="left"), columns]
    high = above[np.searchsorted(member, ranked[step], side="right"), columns]
    share = np.clip((fpr - before) / np.maximum(false[step, columns] - before, ROUNDING), 0.0, 1.0)
    rate: Floats = low + share * (high - low)
    return rate


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
