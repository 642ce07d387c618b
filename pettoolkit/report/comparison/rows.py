"""Rows of the report: lines of the table with a name of their own, and what their privacy comes to in few words."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pettoolkit.records import Guarantee, Interval, MeasuredRisk, NotMeasured, RunResult, Verdict
from pettoolkit.report.lines import Line, vary

MARGIN = 0.02
"""AUROC within which two technologies count as equal; fixed here, before anything is measured."""

ENOUGH_SEEDS = 3
"""With fewer, how much another training or split would change is as good as unknown, and nothing is decided."""

View = Literal["release", "insider"]
VIEWS: tuple[View, View] = ("release", "insider")

MEMBERSHIP: Mapping[str, str] = {
    "membership_auc": "AUC of membership",
    "membership_tpr_at_1pct_fpr": "members found at 1 % false alarms",
    "membership": "members found",
}
"""Measures that a guarantee bounds, and what they are called."""

SOURCES = "raw_records", "anonymised_records", "synthetic_records", "ciphertext", "update", "model", "statistics"
"""Kinds that can leave a hospital, those first that give most away."""

CONTROL: Mapping[str, str] = {
    "raw_records": "no: who holds the records keeps them, and they can't be called back",
    "anonymised_records": "no: the table can't be called back",
    "synthetic_records": "over the records yes; the synthetic table can't be called back",
    "ciphertext": "yes: only hospitals hold the key, and each can stop taking part; what was decrypted can't be undone",
    "update": "over the records yes, and it can stop taking part; updates that were sent can't be called back",
    "model": "over the records yes; the model can't be called back",
    "statistics": "over the records yes; the statistics can't be called back",
    "": "yes: nothing leaves",
}
"""Whether the hospital keeps control, by the kind that gives most away."""

FAILS: Mapping[str, str] = {
    "raw_records": "all at once: a breach of the coordinator exposes every record of every hospital",
    "anonymised_records": "silently: whoever knows a patient's other data may link them to the table, years later",
    "synthetic_records": "silently: rare patients may be copied, and signal between columns lost without a warning",
    "ciphertext": "loudly where ciphertext or key is wrong (the round is refused); totally if the key gets out",
    "update": "a hospital that drops out or sends wrong numbers is named; what updates give away stays unseen",
    "model": "silently: the model may remember patients",
    "statistics": "silently: statistics of few patients expose them",
    "": "alone: a small hospital gets a weak model, the others are untouched",
}
"""How the technology fails, by the same kind."""


@dataclass(frozen=True)
class Difference:
    """A row minus the row that it is compared with, over the same patients and seeds."""

    row: int
    other: int
    role: Literal["pooled", "local", "each other"]
    """What the other row is: a reference, or another technology. These are two families of comparisons."""
    value: float
    interval: Interval
    """Holds together with all others of its family at 95 %."""
    p: float
    """Adjusted by Holm's method over its family."""
    seeds: int

    @property
    def state(self) -> Literal["better", "worse", "no difference", "undecided"]:
        """What the interval decides; a winner is named only where it leaves 0 out."""
        if self.seeds < ENOUGH_SEEDS:
            return "undecided"
        if self.interval.low > -MARGIN and self.interval.high < MARGIN:
            return "no difference"
        if self.interval.low > 0:
            return "better"
        return "worse" if self.interval.high < 0 else "undecided"


@dataclass(frozen=True)
class Risk:
    """Strongest attack of one view, mean over seeds, with the range that the strongest ends span, and its verdict."""

    value: float
    interval: Interval
    threshold: float
    state: str
    why: str
    """The verdict's own reason, and what would decide; of the first seed with this verdict."""


@dataclass(frozen=True)
class Row:
    """A line of the table with its number and name in the report."""

    number: int
    name: str
    line: Line

    @property
    def worst_kind(self) -> str:
        """Kind that gives most away of those that left a hospital; empty if nothing did."""
        out = self.line.kinds_out()
        return next((kind for kind in SOURCES if kind in out), "")

    def risk(self, view: View) -> Risk | NotMeasured:
        """Measured risk of a view; not measured where any seed lacks it."""
        found = [_risk(result, view) for result in self.line.results]
        missing = [f for f in found if isinstance(f, NotMeasured)]
        if missing:
            return missing[0]
        known = [f for f in found if isinstance(f, Risk)]
        states = {f.state for f in known}
        state = "above" if "above" in states else "below" if states == {"below"} else "undecided"
        seed, said = next(
            (r.spec.seed, f.why) for r, f in zip(self.line.results, known, strict=True) if f.state == state
        )
        return Risk(
            statistics.fmean(f.value for f in known),
            Interval(statistics.fmean(f.interval.low for f in known), statistics.fmean(f.interval.high for f in known)),
            known[0].threshold,
            state,
            said if len(known) == 1 else f"seed {seed}: {said}",
        )

    def allowed(self, view: View) -> dict[str, tuple[float, float]]:
        """Measures of membership: the highest success of any attack (mean over seeds), and what the guarantee allows.

        Empty without a guarantee.
        """
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for result in self.line.results:
            measured = result.privacy.measured
            for f in measured.figures if isinstance(measured, MeasuredRisk) else ():
                if f.view == view and f.site == "*" and f.measure in MEMBERSHIP and isinstance(f.bound, float):
                    found.setdefault(f.measure, {}).setdefault(f.attack, []).append((f.success, f.bound))
        return {
            measure: (
                max(statistics.fmean(success for success, _ in each) for each in attacks.values()),
                max(bound for each in attacks.values() for _, bound in each),
            )
            for measure, attacks in found.items()
        }

    def cost(self, read: Callable[[RunResult], float | NotMeasured]) -> float | NotMeasured:
        """Mean of a cost over the cells that report it."""
        figures = [read(result) for result in self.line.results]
        known = [f for f in figures if not isinstance(f, NotMeasured)]
        return statistics.fmean(known) if known else next(f for f in figures if isinstance(f, NotMeasured))

    @property
    def guaranteed(self) -> bool:
        """Whether every cell has a guarantee for the patient."""
        return all(isinstance(r.privacy.guarantee, Guarantee) for r in self.line.results)


def rows(lines: Sequence[Line]) -> list[Row]:
    """Number and name the lines; a name says what is not the same in all of them."""
    specs = [line.spec for line in lines]
    varied = vary(specs, "features", "patients_per_site")
    counts = len({len(spec.sites) for spec in specs}) > 1
    unseen = len({line.unseen for line in lines}) > 1
    found, seen = [], dict[str, int]()
    for number, line in enumerate(lines, start=1):
        words = [name_of(line)]
        if "features" in varied:
            words.append(f"{line.spec.features} features")
        if "patients_per_site" in varied:
            words.append(f"{line.spec.patients_per_site or 'all'} patients per hospital")
        if counts:
            words.append("1 hospital" if len(line.spec.sites) == 1 else f"{len(line.spec.sites)} hospitals")
        if unseen and line.unseen:
            words.append(f"without {line.unseen}")
        name = ", ".join(words)
        seen[name] = seen.get(name, 0) + 1
        found.append(Row(number, name if seen[name] == 1 else f"{name} ({seen[name]})", line))
    return found


def name_of(line: Line) -> str:
    """``federated fedavg + DP, epsilon 3, logistic``."""
    dp = line.spec.dp
    if dp is None:
        return f"{line.arm}, {line.model}"
    noise = {"shared": ", shared noise", "central": ", central noise"}.get(dp.noise, "")
    target = ", downstream only" if dp.target == "downstream" else ""
    return f"{line.arm} + DP, epsilon {dp.epsilon:g}{noise}{target}, {line.model}"


def reference(row: Row, among: Iterable[Row], arm: str) -> Row | None:
    """The row of ``arm`` without differential privacy with the same model, features, hospitals and sizes."""
    return next(
        (
            other
            for other in among
            if other is not row
            and other.line.spec.arm == arm
            and other.line.spec.dp is None
            and setting(other.line) == setting(row.line)
        ),
        None,
    )


def setting(line: Line) -> tuple[object, ...]:
    """What two rows must share to be compared."""
    spec = line.spec
    return (spec.model, spec.features, line.unseen, spec.patients_per_site, len(spec.sites))


def _risk(result: RunResult, view: View) -> Risk | NotMeasured:
    measured = result.privacy.measured
    if not isinstance(measured, MeasuredRisk):
        return measured
    verdict: Verdict = measured.verdict_release if view == "release" else measured.verdict_insider
    if isinstance(verdict.figure, NotMeasured):
        return verdict.figure
    family = [f for f in measured.figures if f.view == view and f.site == "*"]
    low = max((f.interval.low for f in family), default=verdict.figure)
    high = max((f.interval.high for f in family), default=verdict.figure)
    return Risk(
        verdict.figure,
        Interval(min(low, verdict.figure), max(high, verdict.figure)),
        verdict.threshold,
        verdict.state,
        _why(verdict),
    )


def _why(verdict: Verdict) -> str:
    """The verdict's reason, with the strongest attack's name where it has none."""
    named = not verdict.strongest or verdict.strongest in verdict.why
    return verdict.why if named else f"{verdict.why}; the strongest attack is {verdict.strongest}"
