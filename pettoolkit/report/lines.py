"""Cells that differ in their seed alone, put together; the figures of one line of a table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pettoolkit.records import (
    INSTRUMENTATION,
    Guarantee,
    Interval,
    NotMeasured,
    RunResult,
    RunSpec,
    Summary,
    digest_of,
    to_json,
)
from pettoolkit.report.listing import Reported, model, variant


@dataclass(frozen=True)
class Line:
    """Finished cells that are one line: the same but for the seed (and the hospital left out, if each one is in turn).

    Means are plain means over the cells; intervals are those of the summary, over patients and seeds
    together (where hospitals are left out in turn: over
    all of them where that is known, else the mean of both ends).
    """

    spec: RunSpec
    """Of the first cell."""
    results: tuple[RunResult, ...]
    summaries: tuple[Summary, ...] = ()
    """The seeds put together, one per hospital left out in turn (else one)."""
    left_out: tuple[str, ...] = ()
    """The hospitals that are left out in turn."""

    @property
    def arm(self) -> str:
        """Arm and variant."""
        return self.spec.arm if variant(self.spec) == "-" else f"{self.spec.arm} {variant(self.spec)}"

    @property
    def model(self) -> str:
        """Model and, if it has some, hidden units."""
        return model(self.spec)

    @property
    def unseen(self) -> str:
        """Hospitals that did not train and were tested on."""
        return f"each of {len(self.left_out)}" if self.left_out else ", ".join(self.spec.unseen)

    def mean(self, metric: str) -> float | NotMeasured:
        """Mean of a metric over the cells that have it."""
        found = [r.metrics[metric] for r in self.results if metric in r.metrics]
        return statistics.fmean(found) if found else NotMeasured(f"no cell has {metric}")

    def interval(self, metric: str) -> Interval | NotMeasured:
        """The metric's interval over patients and seeds."""
        joint = [s for s in self.summaries if self.left_out and len(s.spec.unseen) > 1 and metric in s.intervals]
        if joint:
            return joint[0].intervals[metric]
        given = self.summaries or self.results
        found = [r.intervals[metric] for r in given if metric in r.intervals]
        if not found:
            return NotMeasured(f"no cell has an interval of {metric}")
        return Interval(statistics.fmean(i.low for i in found), statistics.fmean(i.high for i in found))

    def site_auroc(self) -> dict[str, float | NotMeasured]:
        """Mean AUROC of each hospital over the cells in which it is defined."""
        means: dict[str, float | NotMeasured] = {}
        for site in sorted({site for r in self.results for site in r.per_site}):
            figures = [r.per_site[site].get("auroc") for r in self.results if site in r.per_site]
            found = [f for f in figures if isinstance(f, (int, float))]
            reasons = [f for f in figures if isinstance(f, NotMeasured)]
            none = reasons[0] if reasons else NotMeasured("not evaluated")
            means[site] = statistics.fmean(found) if found else none
        return means

    def subgroup_auroc(self) -> dict[str, dict[str, float]]:
        """``{attribute: {level: AUROC}}``, means over the cells in which it is defined; other levels are left out."""
        found: dict[str, dict[str, list[float]]] = {}
        for result in self.results:
            for attribute, levels in result.subgroups.items():
                for level, value in levels.items():
                    if not isinstance(value, NotMeasured):
                        found.setdefault(attribute, {}).setdefault(level, []).append(value)
        return {a: {level: statistics.fmean(v) for level, v in sorted(some.items())} for a, some in found.items()}

    def worst(self) -> tuple[str, float] | NotMeasured:
        """Hospital with the lowest mean AUROC among those that trained (among all, if none of them is defined)."""
        trained = {site for r in self.results for site in r.spec.sites}
        known = {s: a for s, a in self.site_auroc().items() if isinstance(a, float) and s in trained}
        return min(known.items(), key=lambda item: item[1]) if known else NotMeasured("undefined at every site")

    def bytes_out(self) -> float:
        """Bytes that left a hospital as part of the technology's own protocol, set-up aside; mean over all of them."""
        aside = INSTRUMENTATION | {"setup"}
        return statistics.fmean(
            sum(t.bytes for t in r.exposure.traffic if t.direction == "out" and t.purpose not in aside)
            / max(len(r.spec.sites), 1)
            for r in self.results
        )

    def kinds_out(self) -> tuple[str, ...]:
        """What left the hospitals in any of the cells."""
        return tuple(sorted({kind for r in self.results for kind in r.exposure.kinds_out()}))

    def seconds(self) -> float:
        """Seconds of training, mean over the cells."""
        return statistics.fmean(r.cost.train_seconds for r in self.results)

    def guarantee(self) -> str:
        """The largest epsilon of the cells under both adjacencies, and what is left of it against whom it is larger.

        With shared noise the headline holds against outsiders and the coordinator. A hospital knows its own part of the
        noise, so that another figure holds against a curious one, and a third if the coordinator gets a key.

        ``none`` if any of the cells has no guarantee for patients.
        """
        found = [r.privacy.guarantee for r in self.results]
        stated = [g for g in found if isinstance(g, Guarantee)]
        if len(stated) < len(found):
            dp = self.spec.dp
            return f"none (downstream epsilon {dp.epsilon:g})" if dp and dp.target == "downstream" else "none"
        said = f"epsilon {max(g.epsilon for g in stated):.3g}"
        replaced = _largest(g.epsilon_replace_one for g in stated)
        if replaced is not None:
            said += f" (replace-one {replaced:.3g})"
        curious = [g.epsilon_if_sites_collude["1"] for g in stated if "1" in g.epsilon_if_sites_collude]
        if curious:
            said += f"; {max(curious):.3g} against one curious hospital"
        colluding = _largest(g.epsilon_if_coordinator_and_site_collude for g in stated)
        if colluding is not None:
            said += f"; {colluding:.3g} if coordinator and a hospital collude"
        return said


def lines(cells: Iterable[Reported], summaries: Iterable[Summary] = ()) -> list[Line]:
    """Group the cells that have a result, in the order in which they come."""
    found = [r for cell in cells if (r := getattr(cell, "result", None)) is not None]
    turns = {r.spec.unseen for r in found}
    in_turn = len(turns) > 1 and all(len(unseen) == 1 for unseen in turns)
    groups: dict[str, list[RunResult]] = {}
    for result in found:
        groups.setdefault(_identity(result.spec, in_turn), []).append(result)
    together: dict[str, list[Summary]] = {}
    for summary in summaries:
        together.setdefault(_identity(summary.spec, in_turn), []).append(summary)
    return [_line(results, tuple(together.get(key, ())), in_turn) for key, results in groups.items()]


def vary(specs: Sequence[RunSpec], *fields: str) -> tuple[str, ...]:
    """Return those of the fields that are not the same in all specs."""
    return tuple(f for f in fields if len({digest_of(to_json(getattr(spec, f))) for spec in specs}) > 1)


def _largest(figures: Iterable[float | NotMeasured]) -> float | None:
    return max((f for f in figures if not isinstance(f, NotMeasured)), default=None)


def _line(results: Sequence[RunResult], summaries: tuple[Summary, ...], in_turn: bool) -> Line:
    left_out = tuple(sorted({site for r in results for site in r.spec.unseen})) if in_turn else ()
    return Line(results[0].spec, tuple(results), summaries, left_out)


def _identity(spec: RunSpec, in_turn: bool) -> str:
    """All of a spec but the seed, and what a seed draws: which (not how many) hospitals train."""
    data = spec.wire()
    for name in ("seed", "contract", "contract_digest", "experiment"):
        del data[name]
    data["sites"] = len(spec.sites)
    if in_turn:
        data["unseen"] = []
    return digest_of(data)
