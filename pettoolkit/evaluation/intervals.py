"""95 % intervals by resampling patients within hospital and outcome.

Each patient gets one random weight per resample, the same in every arm and every seed, so that two
arms are compared on the same resampled patients and a patient who is in several seeds' test sets
counts as one patient, not as several. So does a patient with several rows: all of them get the patient's weight.

The weights are exponential with mean 1 (the Bayesian bootstrap, Rubin 1981) instead of multinomial
counts: an AUROC only sees weights relative to their sum within an outcome, and exponentials divided
by their sum are uniform on the simplex, with the bootstrap's variance up to n / (n + 1). Three things
follow that counts don't give: the weight is a function of (hospital, patient) alone, whoever else is
in the test set; a hospital with few positives never loses all of them in a resample; and resampling
within the outcome needs no further step.

The percentiles of so few positives as a hospital has are too narrow (5 positives: 80 % instead of
95 %), and near 1 they are lopsided the wrong way. So an AUROC's interval is Student's t on the logit
scale, with the resamples' standard deviation (the logit among the intervals that Qin and Hotilovac
2008 compare, Stat Methods Med Res 17:207); the degrees of freedom are those of the rarer outcome,
pooled over hospitals by Welch and Satterthwaite. Scores that separate the outcomes have no spread to
resample: there the interval is Newcombe's (2006, Stat Med 25:559, method 5). A difference of two
AUROCs has its percentiles, their distances from the median stretched as Student's t asks (Hesterberg
2015, "What teachers should know about the bootstrap", section 5.2, there by moving the percentiles).

Hospitals are not resampled: an interval speaks about these hospitals and about other patients of
theirs. Models are not refitted: the spread over training runs is the SD over seeds, not this interval.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pettoolkit.evaluation import robustness
from pettoolkit.evaluation.metrics import NOBODY, Figure, auroc, mean_of
from pettoolkit.evaluation.predictions import Array, SitePredictions
from pettoolkit.records import Interval, NotMeasured

RESAMPLES = 1000
LEVEL = 0.95
LEAST_PER_CLASS = 5
"""A hospital's own interval needs this many of both outcomes: below, resampling knows too little."""

TOO_FEW = NotMeasured(f"fewer than {LEAST_PER_CLASS} patients of one outcome at this site")

_BLOCK = 250_000  # weights held at once (2 MB): stays in the processor's cache
_STEP = np.uint64(0x9E3779B97F4A7C15)

Predictions = Mapping[str, SitePredictions]


@dataclass(frozen=True)
class Estimate:
    """A figure and its interval."""

    value: float
    interval: Interval | NotMeasured


@dataclass(frozen=True)
class MeanSiteAuroc:
    """AUROC over hospitals and seeds.

    ``per_site`` holds means over seeds; ``mean`` is their unweighted mean, ``worst`` the lowest of
    them (``worst_site``) with that hospital's own interval, ``site_sd`` their standard deviation.
    """

    mean: Estimate | NotMeasured
    per_site: Mapping[str, Estimate | NotMeasured]
    worst_site: str | NotMeasured
    worst: Estimate | NotMeasured
    site_sd: Figure


def patient_weights(site: str, patient: Array, resamples: int = RESAMPLES, first: int = 0) -> Array:
    """Exponential weights, float64[n, resamples]; row i depends on ``site`` and ``patient[i]`` alone.

    ``first`` is the number of the first resample, so that a block of columns can be made by itself.
    The random bits are SplitMix64's (Steele, Lea and Flood 2014), counted from a hash of the two.
    """
    key = np.frombuffer(hashlib.sha256(site.encode()).digest()[:8], dtype="<u8")[0]
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        start = _mix(_mix(patient.astype(np.uint64) * _STEP + key))
        columns = np.arange(first + 1, first + resamples + 1, dtype=np.uint64) * _STEP
        bits = _mix(start[:, None] + columns)
    uniform = (bits >> np.uint64(11)).astype(np.float64)
    uniform += 0.5
    uniform *= 2.0**-53
    weights: Array = -np.log(uniform)
    return weights


def resampled_auroc(site: str, predictions: SitePredictions, resamples: int = RESAMPLES) -> Array | NotMeasured:
    """AUROC of each resample, float64[resamples]."""
    positive, negative = predictions.y == 1, predictions.y == 0
    if not positive.any() or not negative.any():
        return NOBODY if not predictions.patients else NotMeasured("undefined: one class at this site")
    order = np.argsort(predictions.score[negative], kind="stable")
    ranked = predictions.score[negative][order]
    below = np.searchsorted(ranked, predictions.score[positive], side="left")
    up_to = np.searchsorted(ranked, predictions.score[positive], side="right")
    ids = np.concatenate([predictions.patient[negative][order], predictions.patient[positive]])
    values = np.empty(resamples)
    block = max(1, _BLOCK // len(ids))
    for first in range(0, resamples, block):
        columns = slice(first, min(first + block, resamples))
        weights = patient_weights(site, ids, columns.stop - first, first)
        values[columns] = _weighted_auroc(weights[: len(order)], weights[len(order) :], below, up_to)
    return values


def bootstrap_mean_site_auroc(
    seeds: Sequence[Predictions], sites: Sequence[str] | None = None, resamples: int = RESAMPLES
) -> MeanSiteAuroc:
    """AUROC per hospital, mean, worst and spread, with intervals, over one or several seeds.

    Parameters
    ----------
    seeds
        ``{site: predictions}`` of each seed; also several models scored on the same patients.
    sites
        Hospitals to take, default all that occur. Hospitals without an AUROC are left out.
    """
    sites = list(dict.fromkeys(s for run in seeds for s in run)) if sites is None else sites
    draws = {site: _site_draws(seeds, site, resamples) for site in sites}
    per_site = {site: _site_estimate(seeds, site, draws[site]) for site in sites}
    values: dict[str, Figure] = {s: e if isinstance(e, NotMeasured) else e.value for s, e in per_site.items()}
    worst = robustness.worst_site(values)
    return MeanSiteAuroc(
        mean=_mean_estimate(values, draws, {s: _counts(seeds, s) for s in sites if _runs_with(seeds, s)}),
        per_site=per_site,
        worst_site=worst,
        worst=worst if isinstance(worst, NotMeasured) else per_site[worst],
        site_sd=robustness.site_sd(values),
    )


@dataclass(frozen=True)
class PairedAuroc:
    """AUROC of one arm minus that of another, on the same patients, means over seeds.

    ``per_site`` has the hospitals where both are defined, ``mean`` is the unweighted mean over them.
    """

    mean: Estimate
    per_site: Mapping[str, Estimate]


def paired_auroc(
    a: Sequence[Predictions], b: Sequence[Predictions], sites: Sequence[str] | None = None, resamples: int = RESAMPLES
) -> PairedAuroc | NotMeasured:
    """AUROC of ``a`` minus that of ``b`` on the same resampled patients, hospital by hospital and in the mean.

    Parameters
    ----------
    a, b
        Two arms over the same seeds, in the same order.
    sites
        Hospitals to take, default all that occur.

    Raises
    ------
    ValueError
        If the arms don't have the same number of seeds or the same hospitals.
    """
    names = [list(dict.fromkeys(s for run in arm for s in run)) if sites is None else list(sites) for arm in (a, b)]
    if len(a) != len(b) or set(names[0]) != set(names[1]):
        raise ValueError("a paired difference needs the same seeds and the same hospitals in both arms")
    return difference_of(*(resampled_sites(arm, names[0], resamples) for arm in (a, b)))


@dataclass(frozen=True)
class ResampledSite:
    """A hospital's AUROC, mean over seeds, with its resamples and how many patients of each outcome there are."""

    value: Figure
    draws: Array | NotMeasured
    counts: tuple[int, int]


def resampled_sites(
    seeds: Sequence[Predictions], sites: Sequence[str], resamples: int = RESAMPLES
) -> dict[str, ResampledSite]:
    """Resample one arm once, to compare it with several others by :func:`difference_of`."""
    return {
        site: ResampledSite(_site_value(seeds, site), _site_draws(seeds, site, resamples), _counts(seeds, site))
        for site in sites
        if _runs_with(seeds, site)
    }


def difference_of(a: Mapping[str, ResampledSite], b: Mapping[str, ResampledSite]) -> PairedAuroc | NotMeasured:
    """AUROC of ``a`` minus that of ``b``; both have the same patients, hence the same weights in each resample."""
    mean = mean_difference_of(a, b)
    if isinstance(mean, NotMeasured):
        return mean
    per_site: dict[str, Estimate] = {}
    for site, (value, draws) in _site_differences(a, b).items():
        rarer = min(a[site].counts)
        few = rarer < LEAST_PER_CLASS
        per_site[site] = Estimate(value, TOO_FEW if few else percentile_interval(draws, rarer - 1))
    return PairedAuroc(mean, per_site)


def mean_difference_of(a: Mapping[str, ResampledSite], b: Mapping[str, ResampledSite]) -> Estimate | NotMeasured:
    """The mean over hospitals of :func:`difference_of` alone, in a fraction of the time: for many pairs."""
    found = _site_differences(a, b)
    if not found:
        return NotMeasured("undefined at every site")
    draws: dict[str, Array | NotMeasured] = {site: each for site, (_, each) in found.items()}
    mean, freedom = _mean_draws(draws, {site: a[site].counts for site in draws})
    value = float(np.mean([each for each, _ in found.values()]))
    return Estimate(value, percentile_interval(mean, freedom))


def _site_differences(a: Mapping[str, ResampledSite], b: Mapping[str, ResampledSite]) -> dict[str, tuple[float, Array]]:
    """Difference and its resamples of each hospital where both are defined."""
    found: dict[str, tuple[float, Array]] = {}
    for site in (site for site in a if site in b):
        one, two, first, second = a[site].value, b[site].value, a[site].draws, b[site].draws
        if isinstance(one, NotMeasured) or isinstance(two, NotMeasured):
            continue
        if isinstance(first, NotMeasured) or isinstance(second, NotMeasured):
            continue
        found[site] = one - two, first - second
    return found


def paired_difference(
    a: Sequence[Predictions], b: Sequence[Predictions], sites: Sequence[str] | None = None, resamples: int = RESAMPLES
) -> tuple[float, Interval] | NotMeasured:
    """Mean of :func:`paired_auroc` alone, with its interval."""
    found = paired_auroc(a, b, sites, resamples)
    if isinstance(found, NotMeasured):
        return found
    interval = found.mean.interval
    return interval if isinstance(interval, NotMeasured) else (found.mean.value, interval)


def percentile_interval(values: Array, freedom: float) -> Interval:
    """Central 95 % of ``values``, stretched about their median for ``freedom`` degrees of freedom."""
    from scipy.stats import norm, t

    tail = (1 - LEVEL) / 2
    low, middle, high = np.quantile(values, [tail, 0.5, 1 - tail])
    stretch = _unbiased(freedom) * t.ppf(1 - tail, freedom) / norm.ppf(1 - tail)
    return Interval(float(middle - stretch * (middle - low)), float(middle + stretch * (high - middle)))


def auroc_interval(value: float, values: Array, freedom: float, positives: int, negatives: int) -> Interval:
    """Student's t interval of an AUROC on the logit scale; between 0 and 1, and around ``value``.

    Parameters
    ----------
    value
        The AUROC itself.
    values
        Its resamples, of which only the standard deviation is used.
    freedom
        Degrees of freedom.
    positives, negatives
        Patients with and without the outcome, for an AUROC of exactly 0 or 1.
    """
    from scipy.special import expit, logit
    from scipy.stats import t

    if value in (0.0, 1.0):
        bound = separated_bound(positives, negatives)
        return Interval(bound, 1.0) if value == 1.0 else Interval(0.0, 1 - bound)
    reach = t.ppf((1 + LEVEL) / 2, freedom) * _unbiased(freedom) * float(values.std()) / (value * (1 - value))
    return Interval(*(float(expit(logit(value) + end)) for end in (-reach, reach)))


def separated_bound(positives: int, negatives: int) -> float:
    """Lowest AUROC that is compatible with scores that separate the outcomes (Newcombe 2006, method 5)."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    quantile, average = norm.ppf((1 + LEVEL) / 2), (positives + negatives) / 2 - 1

    def gap(auroc: float) -> float:
        shape = 1 + average * ((1 - auroc) / (2 - auroc) + auroc / (1 + auroc))
        return float(1 - auroc - quantile * np.sqrt(auroc * (1 - auroc) * shape / (positives * negatives)))

    return float(brentq(gap, 1e-12, 1 - 1e-9))


def _unbiased(freedom: float) -> float:
    """Exponential weights give n / (n + 1) of the mean's variance over n, an unbiased one n / (n - 1)."""
    return float(np.sqrt((freedom + 2) / freedom)) if np.isfinite(freedom) else 1.0


def _mix(bits: Array) -> Array:
    """SplitMix64's finaliser: a bijection of 64-bit words without visible structure."""
    bits = bits ^ (bits >> np.uint64(30))
    bits *= np.uint64(0xBF58476D1CE4E5B9)
    bits ^= bits >> np.uint64(27)
    bits *= np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return bits


def _weighted_auroc(negative: Array, positive: Array, below: Array, up_to: Array) -> Array:
    """AUROC per column of weights; a positive outranks the first ``below`` negatives and ties up to ``up_to``."""
    mass = np.zeros((len(negative) + 1, negative.shape[1]))
    np.cumsum(negative, axis=0, out=mass[1:])
    outranked = (mass[below] + mass[up_to]) / 2
    total: Array = (positive * outranked).sum(axis=0) / (positive.sum(axis=0) * mass[-1])
    return total


def _runs_with(seeds: Sequence[Predictions], site: str) -> list[SitePredictions]:
    return [run[site] for run in seeds if site in run]


def _site_value(seeds: Sequence[Predictions], site: str) -> Figure:
    figures = [auroc(p.y, p.score) if p.patients else NOBODY for p in _runs_with(seeds, site)]
    reasons = [f for f in figures if isinstance(f, NotMeasured)]
    return mean_of(figures, otherwise=reasons[0] if reasons else NOBODY)


def _site_draws(seeds: Sequence[Predictions], site: str, resamples: int) -> Array | NotMeasured:
    draws = [resampled_auroc(site, p, resamples) for p in _runs_with(seeds, site)]
    known = [d for d in draws if not isinstance(d, NotMeasured)]
    return np.mean(known, axis=0) if known else NOBODY


def _counts(seeds: Sequence[Predictions], site: str) -> tuple[int, int]:
    """How many distinct patients have the outcome, and how many don't, over all seeds."""
    runs = _runs_with(seeds, site)
    negatives, positives = (len(np.unique(np.concatenate([p.patient[p.y == y] for p in runs]))) for y in (0, 1))
    return positives, negatives


def _site_estimate(seeds: Sequence[Predictions], site: str, draws: Array | NotMeasured) -> Estimate | NotMeasured:
    value = _site_value(seeds, site)
    if isinstance(value, NotMeasured) or isinstance(draws, NotMeasured):
        return value if isinstance(value, NotMeasured) else NOBODY
    counts = _counts(seeds, site)
    if min(counts) < LEAST_PER_CLASS:
        return Estimate(value, TOO_FEW)
    return Estimate(value, auroc_interval(value, draws, min(counts) - 1, *counts))


def _mean_estimate(
    values: Mapping[str, Figure], draws: Mapping[str, Array | NotMeasured], counts: Mapping[str, tuple[int, int]]
) -> Estimate | NotMeasured:
    value = mean_of(list(values.values()), otherwise=NotMeasured("undefined at every site"))
    if isinstance(value, NotMeasured):
        return value
    mean, freedom = _mean_draws(draws, counts)
    known = [counts[site] for site, d in draws.items() if not isinstance(d, NotMeasured)]
    positives, negatives = (sum(column) for column in zip(*known, strict=True))
    return Estimate(value, auroc_interval(value, mean, freedom, positives, negatives))


def _mean_draws(draws: Mapping[str, Array | NotMeasured], counts: Mapping[str, tuple[int, int]]) -> tuple[Array, float]:
    """Resamples of the unweighted mean over the hospitals that have some, and its degrees of freedom."""
    known = {site: d for site, d in draws.items() if not isinstance(d, NotMeasured)}
    variance = {site: float(d.var()) for site, d in known.items()}
    spread = sum(v**2 / max(1, min(counts[site]) - 1) for site, v in variance.items())
    freedom = sum(variance.values()) ** 2 / spread if spread > 0 else np.inf
    return np.mean(list(known.values()), axis=0), float(freedom)
