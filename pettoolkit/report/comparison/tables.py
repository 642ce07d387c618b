"""Tables of the report's figures, made of its rows."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pettoolkit.records import INSTRUMENTATION, Interval, NotMeasured
from pettoolkit.report.comparison.figures import Table
from pettoolkit.report.comparison.rows import VIEWS, Risk, Row

AUROC = "utility/auroc"
UNSEEN = "robustness/auroc_unseen_site"


def risk(rows: Sequence[Row]) -> Table:
    """Rows whose risk was measured, once for each view."""
    records = []
    for view in VIEWS:
        for row in rows:
            found, auroc = row.risk(view), _estimate(row, AUROC)
            if isinstance(found, Risk) and auroc is not None:
                at = {"risk": found.value, "risk_low": found.interval.low, "risk_high": found.interval.high}
                records.append(_named(row) | {"view": view} | auroc | at | {"verdict": found.state})
    columns = ("row", "view", "name", "auroc", "low", "high", "risk", "risk_low", "risk_high", "verdict")
    return Table("utility_and_risk", columns, tuple(records))


def thresholds(rows: Sequence[Row]) -> dict[str, float]:
    """Threshold of each view."""
    return {view: r.threshold for view in VIEWS for row in reversed(rows) if isinstance(r := row.risk(view), Risk)}


def hospitals(rows: Sequence[Row]) -> Table:
    """AUROC of each hospital, and as ``*`` the mean over those that trained."""
    records = []
    for row in rows:
        mean = _estimate(row, AUROC)
        if mean is not None:
            records.append(_named(row) | {"hospital": "*"} | mean | {"worst": ""})
        worst = row.line.worst()
        for site, auroc in row.line.site_auroc().items():
            if isinstance(auroc, float):
                is_worst = not isinstance(worst, NotMeasured) and site == worst[0]
                records.append(
                    _named(row) | {"hospital": site, "auroc": auroc, "low": "", "high": "", "worst": is_worst}
                )
    return Table("auroc_by_hospital", ("row", "name", "hospital", "auroc", "low", "high", "worst"), tuple(records))


def matrix(row: Row) -> Table | None:
    """AUROC of each hospital's own model at every other, means over seeds; None where all share one model."""
    found: dict[tuple[str, str], list[float]] = {}
    for result in row.line.results:
        if isinstance(result.cross_site, NotMeasured):
            return None
        for trained, tested in result.cross_site.items():
            for site, auroc in tested.items():
                if isinstance(auroc, float):
                    found.setdefault((trained, site), []).append(auroc)
    records = tuple(
        {"trained": trained, "tested": tested, "auroc": statistics.fmean(values)}
        for (trained, tested), values in sorted(found.items())
    )
    return Table(f"train_by_test_site_{row.number}", ("trained", "tested", "auroc"), records) if records else None


def epsilons(rows: Sequence[Row]) -> tuple[Table, dict[str, float]]:
    """AUROC by epsilon asked for, of rows with DP; and the level of the same technologies without it."""
    records, series = [], dict[tuple[object, ...], str]()
    for row in rows:
        dp, auroc = row.line.spec.dp, _estimate(row, AUROC)
        if dp is None or auroc is None:
            continue
        name = f"{row.line.arm}, {row.line.model}, {dp.noise} noise"
        series[_technology(row)] = f"{row.line.arm}, {row.line.model}"
        records.append({"series": name, "epsilon": dp.epsilon} | auroc)
    without = {
        f"{series[_technology(row)]}, no DP": auroc["auroc"]
        for row in rows
        if row.line.spec.dp is None and _technology(row) in series and (auroc := _estimate(row, AUROC)) is not None
    }
    return Table("auroc_by_epsilon", ("series", "epsilon", "auroc", "low", "high"), tuple(records)), without


def diversity(rows: Sequence[Row]) -> Table:
    """AUROC by number of hospitals that train, at unseen hospitals where there are some."""
    records = []
    for row in rows:
        spec = row.line.spec
        auroc = _estimate(row, UNSEEN if spec.unseen else AUROC)
        if auroc is None:
            continue
        total = (
            "" if spec.patients_per_site is None else f", {spec.patients_per_site * len(spec.sites)} patients in all"
        )
        dp = "" if spec.dp is None else f" + DP, epsilon {spec.dp.epsilon:g}"
        where = "" if row.line.left_out or not spec.unseen else f", at {row.line.unseen}"
        series = f"{row.line.arm}{dp}, {row.line.model}{total}{where}"
        records.append({"series": series, "hospitals": len(spec.sites)} | auroc)
    return Table("auroc_by_number_of_hospitals", ("series", "hospitals", "auroc", "low", "high"), tuple(records))


COSTS: Mapping[str, str] = {
    "cpu_hospital": "CPU seconds,\nbusiest hospital",
    "cpu_coordinator": "CPU seconds,\ncoordinator",
    "seconds": "seconds\nof training",
    "bytes_out": "bytes out\nper hospital",
}


def costs(rows: Sequence[Row]) -> Table:
    """Means over cells; empty where the engine reports none."""
    records = [
        _named(row)
        | {
            "cpu_hospital": _or_empty(row.cost(lambda r: r.cost.cpu_seconds_site_max)),
            "cpu_coordinator": _or_empty(row.cost(lambda r: r.cost.cpu_seconds_coordinator)),
            "seconds": row.line.seconds(),
            "memory_mb": _or_empty(row.cost(lambda r: r.cost.peak_rss_mb)),
            "bytes_out": row.line.bytes_out(),
        }
        for row in rows
    ]
    columns = ("row", "name", "cpu_hospital", "cpu_coordinator", "seconds", "memory_mb", "bytes_out")
    return Table("costs", columns, tuple(records))


def traffic(rows: Sequence[Row]) -> Table:
    """What the meter read, per hospital and cell: messages and bytes of each kind, instrumentation aside."""
    records = []
    for row in rows:
        totals: dict[tuple[str, str], list[float]] = {}
        share = sum(max(len(r.spec.sites), 1) for r in row.line.results)
        for result in row.line.results:
            for t in result.exposure.traffic:
                if t.purpose not in INSTRUMENTATION and t.protocol:
                    both = totals.setdefault((t.direction, t.kind), [0.0, 0.0])
                    both[0] += t.messages
                    both[1] += t.bytes
        for (direction, kind), (messages, size) in sorted(totals.items(), reverse=True):
            counted = {"messages": messages / share, "bytes": size / share}
            records.append(_named(row) | {"direction": direction, "kind": kind} | counted)
    columns = ("row", "name", "direction", "kind", "messages", "bytes")
    return Table("what_left", columns, tuple(records))


def subgroups(rows: Sequence[Row]) -> Table:
    """AUROC of each level of each public attribute."""
    records = [
        _named(row) | {"attribute": attribute, "level": level, "auroc": auroc}
        for row in rows
        for attribute, levels in row.line.subgroup_auroc().items()
        for level, auroc in levels.items()
    ]
    return Table("auroc_by_subgroup", ("row", "name", "attribute", "level", "auroc"), tuple(records))


def decisions(columns: Sequence[str], records: Iterable[Mapping[str, Any]]) -> Table:
    """The decision table, for its CSV."""
    return Table("decision_table", tuple(columns), tuple(records))


def _named(row: Row) -> dict[str, Any]:
    return {"row": row.number, "name": row.name}


def _estimate(row: Row, metric: str) -> dict[str, Any] | None:
    value, interval = row.line.mean(metric), row.line.interval(metric)
    if isinstance(value, NotMeasured):
        return None
    ends = (interval.low, interval.high) if isinstance(interval, Interval) else ("", "")
    return {"auroc": value, "low": ends[0], "high": ends[1]}


def _or_empty(value: float | NotMeasured) -> float | str:
    return "" if isinstance(value, NotMeasured) else value


def _technology(row: Row) -> tuple[object, ...]:
    spec = row.line.spec
    return (row.line.arm, spec.model, spec.features, row.line.unseen, spec.patients_per_site, len(spec.sites))
