"""Good enough? A test of non-inferiority against a model on pooled real data, with its margin stated beforehand.

*Yes* where the interval of the difference lies wholly above minus the margin, *no* where it lies wholly below,
*undecided* otherwise: that two models do not differ significantly shows nothing (EMA, CPMP/EWP/482/99 and
EMEA/CPMP/EWP/2158/99; ICH E9, 3.3.2). The intervals of all technologies hold together at 95 % (Bonferroni), since among
those that pass one is picked.

Two things vary, and both are in the interval. Other patients: both models are resampled on the same ones (paired, see
:mod:`pettoolkit.evaluation.intervals`). Other trainings and splits: the SD of the difference over seeds. Seeds share
some test patients and not all, so the second holds part of the first again: the interval is too wide rather than too
narrow.
With fewer than three seeds the second is as good as unknown, and nothing is decided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pettoolkit.evaluation.intervals import LEVEL, RESAMPLES, Predictions, paired_auroc
from pettoolkit.evaluation.metrics import auroc
from pettoolkit.evaluation.predictions import Array
from pettoolkit.records import Interval, NotMeasured

State = Literal["yes", "no", "undecided"]

ENOUGH_SEEDS = 3
FEW_SEEDS = f"how much another training or split would change is not known: run at least {ENOUGH_SEEDS} seeds"


@dataclass(frozen=True)
class Difference:
    """AUROC of a technology minus that of pooled real data, mean over hospitals and seeds, and what it decides."""

    state: State
    why: str
    value: float | NotMeasured
    interval: Interval | NotMeasured
    seeds: int


def noninferior(
    ours: Sequence[Predictions],
    theirs: Sequence[Predictions],
    sites: Sequence[str],
    *,
    margin: float,
    comparisons: int = 1,
    resamples: int = RESAMPLES,
) -> Difference:
    """Compare a technology with pooled real data.

    Parameters
    ----------
    ours, theirs
        Predictions of the technology and of the pooled model over the same seeds, in the same order.
    sites
        Hospitals that count.
    margin
        AUROC that may be lost, stated before the data are seen.
    comparisons
        How many technologies are compared: all intervals together hold at 95 %.
    """
    found = paired_auroc(ours, theirs, sites, resamples)
    if isinstance(found, NotMeasured) or isinstance(found.mean.interval, NotMeasured):
        return Difference("undecided", "no hospital has enough patients of both outcomes", _NONE, _NONE, len(ours))
    value, patients = found.mean.value, found.mean.interval
    if len(ours) < ENOUGH_SEEDS:
        return Difference("undecided", FEW_SEEDS, value, patients, len(ours))
    each = np.array([_difference(a, b, sites) for a, b in zip(ours, theirs, strict=True)])
    interval = _interval(value, patients, each[~np.isnan(each)], comparisons)
    state, why = _decide(value, interval, margin, len(ours))
    return Difference(state, why, value, interval, len(ours))


_NONE = NotMeasured("undefined")


def _interval(value: float, patients: Interval, each: Array, comparisons: int) -> Interval:
    """Student's t over both sources of variance, degrees of freedom by Welch and Satterthwaite.

    The patients' interval already holds its own degrees of freedom, so that its half-width over the normal quantile
    counts as known.
    """
    from scipy.stats import norm, t

    tail = (1 - LEVEL) / 2
    of_patients = ((patients.high - patients.low) / 2 / norm.ppf(1 - tail)) ** 2
    of_seeds = float(each.var(ddof=1)) / len(each) if len(each) > 1 else math.inf
    total = of_patients + of_seeds
    freedom = (len(each) - 1) * (total / of_seeds) ** 2 if of_seeds > 0 else math.inf
    reach = float(t.ppf(1 - tail / comparisons, freedom)) * math.sqrt(total)
    return Interval(value - reach, value + reach)


def _difference(a: Predictions, b: Predictions, sites: Sequence[str]) -> float:
    """Mean over the hospitals where both have an AUROC, of one seed; NaN where none has."""
    pairs = [(auroc(a[s].y, a[s].score), auroc(b[s].y, b[s].score)) for s in sites if s in a and s in b]
    known = [x - y for x, y in pairs if not isinstance(x, NotMeasured) and not isinstance(y, NotMeasured)]
    return float(np.mean(known)) if known else math.nan


def _decide(value: float, interval: Interval, margin: float, seeds: int) -> tuple[State, str]:
    if interval.low > -margin:
        return "yes", f"at most {max(0.0, -interval.low):.3f} is lost, less than the margin {margin:g}"
    if interval.high < -margin:
        return "no", f"at least {-interval.high:.3f} is lost, more than the margin {margin:g}"
    room = abs(value + margin)
    half = (interval.high - interval.low) / 2
    if room < half / 10:
        return "undecided", f"the loss is so near the margin {margin:g} that no realistic number of patients decides"
    times = math.ceil((half / room) ** 2)
    return "undecided", (
        f"between {interval.low:+.3f} and {interval.high:+.3f}, which holds minus the margin {margin:g}; if the "
        f"difference stays, about {times} times as many test patients and seeds ({seeds} now) would decide"
    )
