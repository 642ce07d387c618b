"""What the recorded runs say about one technology: its figures, over all seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean

from pettoolkit.evaluation.intervals import LEVEL, Predictions
from pettoolkit.records import (
    NO_OBSTACLE,
    AttackFigure,
    Guarantee,
    Interval,
    MeasuredRisk,
    NotMeasured,
    RunResult,
    RunSpec,
    Summary,
    Verdict,
)

BOTH = "coordinator and a hospital"
"""Where a figure stands that insiders reach together (see :mod:`pettoolkit.report.measured`)."""

TABLES = ("raw_records", "anonymised_records", "synthetic_records")
"""Kinds that are rows: who gets them has them, whatever becomes of the model."""


@dataclass(frozen=True)
class Risk:
    """Excess of the strongest attack, mean over seeds."""

    value: float
    """Of the attack that was chosen on one half of the targets, measured on the other half."""
    interval: Interval
    """Around it, as wide as that attack's is on half of the targets. Seeds share patients, so that their mean is not
    taken to be more precise than one."""
    state: str
    """Against the limit that was asked for: ``below``, ``above``, ``undecided``."""


@dataclass(frozen=True)
class Technology:
    """One row of the comparison: the cells that differ in their seed."""

    name: str
    results: tuple[RunResult, ...]
    predictions: tuple[Predictions, ...]
    summary: Summary

    @property
    def spec(self) -> RunSpec:
        """Of the first seed."""
        return self.results[0].spec

    @property
    def seeds(self) -> tuple[int, ...]:
        """In the order of results and predictions."""
        return tuple(result.spec.seed for result in self.results)

    @property
    def leaves(self) -> tuple[str, ...]:
        """Kinds of which something left a hospital, as the meter read."""
        return tuple(sorted({kind for result in self.results for kind in result.exposure.kinds_out()}))

    @property
    def guarantees(self) -> tuple[Guarantee, ...]:
        """One for each seed that has one."""
        return tuple(g for r in self.results if isinstance(g := r.privacy.guarantee, Guarantee))

    @property
    def guaranteed(self) -> bool:
        """Whether all seeds have a guarantee for the patient."""
        return len(self.guarantees) == len(self.results)

    def epsilon(self, *, colluding: bool) -> float | NotMeasured:
        """Largest over the seeds; ``colluding``: what is left if the coordinator and a hospital collude."""
        if not self.guaranteed:
            return NotMeasured("no guarantee")
        return max(_epsilon(guarantee, colluding) for guarantee in self.guarantees)

    @property
    def delta(self) -> float | NotMeasured:
        """Largest over the seeds."""
        return max(g.delta for g in self.guarantees) if self.guaranteed else NotMeasured("no guarantee")

    @property
    def threshold(self) -> float | NotMeasured:
        """What the verdicts of the recorded runs compare with, the largest of them."""
        measured = [m for r in self.results if isinstance(m := r.privacy.measured, MeasuredRisk)]
        known = [v.threshold for m in measured for v in (m.verdict_release, m.verdict_insider)]
        return max(known) if known else NotMeasured("no attacks were run")

    @property
    def megabytes(self) -> float:
        """What left the hospital that sent most, mean over seeds; the technology's own messages only."""
        return fmean(max(result.exposure.bytes_per_site("out").values(), default=0) for result in self.results) / 1e6

    @property
    def seconds(self) -> float:
        """Of training, mean over seeds."""
        return fmean(result.cost.train_seconds for result in self.results)

    def verdict(self, view: str) -> str:
        """Of ``release`` or ``insider``: above in any seed is above, below must hold in all."""
        measured = [m for r in self.results if isinstance(m := r.privacy.measured, MeasuredRisk)]
        if len(measured) < len(self.results):
            return "not measured"
        states = {_verdict(m, view).state for m in measured}
        return "above" if "above" in states else "below" if states == {"below"} else "undecided"

    @property
    def untold(self) -> tuple[str, ...]:
        """Attacks that would apply and did not run, or that too few patients let decide, in any seed; each once."""
        measured = [m for r in self.results if isinstance(m := r.privacy.measured, MeasuredRisk)]
        gone = [
            f"{n} did not run" for m in measured for n, why in m.not_run.items() if not why.startswith(NO_OBSTACLE[0])
        ]
        few = [n for m in measured for v in (m.verdict_release, m.verdict_insider) for n in v.left_out]
        return tuple(dict.fromkeys([*gone, *(f"too few patients for {name}" for name in few)]))

    def why(self, view: str) -> str:
        """What the first seed says of its verdict that has the state of all; empty where nothing was measured."""
        measured = [m for r in self.results if isinstance(m := r.privacy.measured, MeasuredRisk)]
        verdicts = [_verdict(m, view) for m in measured]
        return next((v.why for v in verdicts if v.state == self.verdict(view)), "")

    def risk(self, *, released: bool, colluding: bool, limit: float | None) -> Risk | NotMeasured:
        """Strongest attack of the views that count.

        Parameters
        ----------
        released
            Whether the model is given to others; rows that left a hospital count as released in any case.
        colluding
            Whether what the coordinator and a hospital get together counts.
        limit
            What all figures of all seeds are compared with, their intervals widened together (Bonferroni). Nothing is
            below it where an attack that applies did not run.
        """
        views = ["insider", *(["release"] if released or set(self.leaves) & set(TABLES) else [])]
        points: list[float] = []
        reach: list[float] = []
        chosen: list[AttackFigure] = []
        complete = True
        for result in self.results:
            measured = result.privacy.measured
            if isinstance(measured, NotMeasured):
                return measured
            complete &= all(why.startswith(NO_OBSTACLE) for why in measured.not_run.values())
            found = [(f.excess, _reach([f])) for f in measured.figures if colluding and _of_both(f)]
            for view in views:
                verdict = _verdict(measured, view)
                if isinstance(verdict.figure, NotMeasured):
                    return verdict.figure
                family = [f for f in measured.figures if f.view == view and f.site == "*"]
                names = {f"{f.attack} {f.measure}": f for f in family}
                told = [figure for name, figure in names.items() if name not in verdict.left_out]
                named = [names[verdict.strongest]] if verdict.strongest in names else told
                found.append((verdict.figure, math.sqrt(2) * _reach(named)))
                chosen += family
            chosen += [f for f in measured.figures if colluding and _of_both(f)]
            value, width = max(found)
            points.append(value)
            reach.append(width)
        value, width = fmean(points), fmean(reach)
        state = _compared(chosen, limit)
        return Risk(
            value,
            Interval(value - width, min(1.0, value + width)),
            "undecided" if state == "below" and not complete else state,
        )


def _of_both(figure: AttackFigure) -> bool:
    return figure.view == "insider" and figure.site == BOTH


def _reach(figures: Sequence[AttackFigure]) -> float:
    """Half the width of the widest interval."""
    return max(((f.interval.high - f.interval.low) / 2 for f in figures), default=0.0)


def _compared(figures: Sequence[AttackFigure], limit: float | None) -> str:
    """Whether all that was attacked stays below a limit, or something is above it."""
    if limit is None or not figures:
        return "undecided"
    normal = NormalDist()
    wider = normal.inv_cdf(1 - (1 - LEVEL) / 2 / len(figures)) / normal.inv_cdf((1 + LEVEL) / 2)
    if any(f.excess - wider * (f.excess - f.interval.low) > limit for f in figures):
        return "above"
    return "below" if all(f.excess + wider * (f.interval.high - f.excess) < limit for f in figures) else "undecided"


def _verdict(measured: MeasuredRisk, view: str) -> Verdict:
    return measured.verdict_release if view == "release" else measured.verdict_insider


def _epsilon(guarantee: Guarantee, colluding: bool) -> float:
    left = guarantee.epsilon_if_coordinator_and_site_collude
    return left if colluding and not isinstance(left, NotMeasured) else guarantee.epsilon
