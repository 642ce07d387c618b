"""Differences of two arms over patients and seeds, and many of them at once without promising too much.

Two things vary, and both are in a contrast. Other patients: both arms are resampled on the same ones (paired, see
:mod:`pettoolkit.evaluation.intervals`). Other trainings and splits: the SD of the difference over seeds. Seeds share
some test patients and not all, so the second holds part of the first again: the interval is too wide rather than too
narrow. With one seed the second is unknown, and nothing should be decided.

Of several contrasts, p-values are adjusted by Holm's step-down method (Holm 1979, Scand J Statist 6:65) and intervals
hold together by Bonferroni's inequality; both keep the chance of any false claim at 5 %, however the contrasts depend
on each other. Where such an interval leaves 0 out, Holm's p-value is below .05 too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pettoolkit.evaluation.intervals import LEVEL, Predictions, ResampledSite, mean_difference_of
from pettoolkit.evaluation.metrics import auroc
from pettoolkit.evaluation.predictions import Array
from pettoolkit.records import Interval, NotMeasured


@dataclass(frozen=True)
class Contrast:
    """AUROC of one arm minus that of another, mean over hospitals and seeds."""

    value: float
    error: float
    """Standard error, of patients and seeds together."""
    freedom: float
    """Degrees of freedom of that error."""
    seeds: int

    def interval(self, comparisons: int = 1) -> Interval:
        """Student's t interval; those of so many ``comparisons`` hold together at 95 %."""
        from scipy.stats import t

        reach = float(t.ppf(1 - (1 - LEVEL) / 2 / comparisons, self.freedom)) * self.error
        return Interval(self.value - reach, self.value + reach)

    def repeated(self, times: float) -> Contrast:
        """The same with so many times as many patients and seeds: the error shrinks, and its freedom grows."""
        seeds = math.floor(times * self.seeds)
        freedom = self.freedom * (seeds - 1) / (self.seeds - 1) if self.seeds > 1 else self.freedom
        return Contrast(self.value, self.error / math.sqrt(times), freedom, seeds)

    @property
    def p(self) -> float:
        """Two-sided p-value of no difference."""
        from scipy.stats import t

        if self.error == 0:
            return 1.0 if self.value == 0 else 0.0
        return float(2 * t.sf(abs(self.value) / self.error, self.freedom))


def combined(value: float, patients: Interval, each: Array) -> Contrast:
    """Put both sources of variance together; degrees of freedom by Welch and Satterthwaite.

    Parameters
    ----------
    value, patients
        The difference and its 95 % interval over patients, which already holds its own degrees of freedom: its
        half-width over the normal quantile counts as known.
    each
        The difference of each seed, float64[seeds]; with one, the error is that of patients alone.
    """
    from scipy.stats import norm

    of_patients = ((patients.high - patients.low) / 2 / norm.ppf((1 + LEVEL) / 2)) ** 2
    of_seeds = float(each.var(ddof=1)) / len(each) if len(each) > 1 else 0.0
    total = of_patients + of_seeds
    freedom = (len(each) - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    return Contrast(value, math.sqrt(total), freedom, len(each))


def contrast(
    a: Sequence[Predictions],
    b: Sequence[Predictions],
    resampled_a: dict[str, ResampledSite],
    resampled_b: dict[str, ResampledSite],
    seeds: Sequence[int] | None = None,
) -> Contrast | NotMeasured:
    """Compare two arms.

    Parameters
    ----------
    a, b
        Predictions over the same runs, in the same order.
    resampled_a, resampled_b
        The same, resampled (:func:`~pettoolkit.evaluation.intervals.resampled_sites`); hospitals of both count.
    seeds
        Seed of each run, where several runs have one (hospitals left out in turn); default one seed per run.
    """
    found = mean_difference_of(resampled_a, resampled_b)
    if isinstance(found, NotMeasured):
        return found
    if isinstance(found.interval, NotMeasured):
        return found.interval
    sites = [site for site in resampled_a if site in resampled_b]
    runs = [differences_by_seed([one], [two], sites) for one, two in zip(a, b, strict=True)]
    of_seed: dict[int, list[float]] = {}
    for seed, values in zip(range(len(a)) if seeds is None else seeds, runs, strict=True):
        of_seed.setdefault(seed, []).extend(values)
    each = np.array([np.mean(values) for values in of_seed.values() if values])
    return combined(found.value, found.interval, each)


def differences_by_seed(a: Sequence[Predictions], b: Sequence[Predictions], sites: Sequence[str]) -> Array:
    """Mean difference over the hospitals where both have an AUROC, float64[seeds]; without seeds where none has."""
    found = []
    for one, two in zip(a, b, strict=True):
        pairs = [(auroc(one[s].y, one[s].score), auroc(two[s].y, two[s].score)) for s in sites if s in one and s in two]
        known = [x - y for x, y in pairs if not isinstance(x, NotMeasured) and not isinstance(y, NotMeasured)]
        if known:
            found.append(float(np.mean(known)))
    each: Array = np.array(found)
    return each


def holm(p: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: below .05 there is at most a 5 % chance of any false claim."""
    adjusted = [0.0] * len(p)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = least
    return adjusted
