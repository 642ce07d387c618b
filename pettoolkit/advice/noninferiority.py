"""Good enough? A test of non-inferiority against a model on pooled real data, with its margin stated beforehand.

*Yes* where the interval of the difference lies wholly above minus the margin, *no* where it lies wholly below,
*undecided* otherwise: that two models do not differ significantly shows nothing (EMA, CPMP/EWP/482/99 and
EMEA/CPMP/EWP/2158/99; ICH E9, 3.3.2). The intervals of all technologies hold together at 95 % (Bonferroni), since among
those that pass one is picked.

Patients vary, and so do trainings and splits: both are in the interval (:mod:`pettoolkit.evaluation.contrasts`). With
fewer than three seeds the second is as good as unknown, and nothing is decided.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pettoolkit.evaluation.contrasts import Contrast, contrast
from pettoolkit.evaluation.intervals import RESAMPLES, Predictions, resampled_sites
from pettoolkit.records import Interval, NotMeasured

State = Literal["yes", "no", "undecided"]

ENOUGH_SEEDS = 3
MOST_TIMES = 100
"""More patients and seeds than so many times those there are count as out of reach."""

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
    a, b = (resampled_sites(arm, sites, resamples) for arm in (ours, theirs))
    found = contrast(ours, theirs, a, b)
    if isinstance(found, NotMeasured):
        return Difference("undecided", f"no difference can be computed ({found.reason})", found, found, len(ours))
    interval = found.interval(comparisons)
    if found.seeds < ENOUGH_SEEDS:
        return Difference("undecided", FEW_SEEDS, found.value, interval, found.seeds)
    state, why = _decide(found, comparisons, margin)
    return Difference(state, why, found.value, interval, found.seeds)


def _decide(found: Contrast, comparisons: int, margin: float) -> tuple[State, str]:
    interval = found.interval(comparisons)
    if interval.low > -margin:
        return "yes", f"at most {max(0.0, -interval.low):.3f} is lost, less than the margin {margin:g}"
    if interval.high < -margin:
        return "no", f"at least {-interval.high:.3f} is lost, more than the margin {margin:g}"
    reachable = range(2, MOST_TIMES + 1)
    times = next((n for n in reachable if _decided(found.repeated(n).interval(comparisons), margin)), None)
    if times is None:
        return "undecided", f"the loss is so near the margin {margin:g} that no realistic number of patients decides"
    return "undecided", (
        f"between {interval.low:+.3f} and {interval.high:+.3f}, which holds minus the margin {margin:g}; if the "
        f"difference stays, about {times} times as many test patients and seeds ({found.seeds} now) would decide"
    )


def _decided(interval: Interval, margin: float) -> bool:
    return not interval.low <= -margin <= interval.high
