"""Where to look first: the worst columns, pairs and subgroup of a candidate, in words."""

from __future__ import annotations

from collections.abc import Sequence

from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.evaluation.quality.figures import (
    ColumnQuality,
    Fidelity,
    GroupUtility,
    PairQuality,
    Trained,
    Utility,
    Value,
    Worst,
)
from pettoolkit.records import Interval, NotMeasured

LISTED = 5
TITLES = {"auroc": "AUROC", "r2": "R2"}
LEAST_PATIENTS = 20
"""Test patients below which a group is not called the worst."""

NO_GROUP = NotMeasured("no subgroup or hospital has enough test patients of each outcome")


def worst(columns: Sequence[ColumnQuality], pairs: Sequence[PairQuality], utility: Utility | None) -> Worst:
    """Name the columns and pairs furthest beyond their noise floor, and the group in which most is lost."""
    columns = sorted((c for c in columns if beyond(c.shape, c.missing)), key=lambda c: -c.excess)[:LISTED]
    pairs = sorted((p for p in pairs if beyond(p.trend, p.missing_together)), key=lambda p: -p.excess)[:LISTED]
    return Worst(
        columns=tuple(_column(c) for c in columns),
        pairs=tuple(_pair(p) for p in pairs),
        subgroup=NO_GROUP if utility is None else _group(utility),
    )


def _column(column: ColumnQuality) -> str:
    parts = []
    if beyond(column.shape):
        parts.append(f"values {beside(column.shape)}")
    if beyond(column.missing):
        parts.append(f"missing {column.missing_synthetic:.1%} for {column.missing_real:.1%}, {beside(column.missing)}")
    return f"{column.name}: {'; '.join(parts)}"


def _pair(pair: PairQuality) -> str:
    if pair.trend.excess >= pair.missing_together.excess:
        figures = f" (r {_r(pair.synthetic)} for {_r(pair.real)})" if pair.measure == "correlation" else ""
        return f"{pair.first} with {pair.second}: {pair.measure}{figures} {beside(pair.trend)}"
    return f"{pair.first} with {pair.second}: missing together {beside(pair.missing_together)}"


def _r(value: Value) -> str:
    return "undefined" if isinstance(value, NotMeasured) else f"{value:+.2f}"


def beyond(*figures: Fidelity) -> bool:
    """Whether any of the distances is beyond its noise floor."""
    return any(figure.verdict == "beyond the floor" for figure in figures)


def beside(figure: Fidelity) -> str:
    """A distance and its floor in words."""
    if isinstance(figure.value, NotMeasured):
        return figure.value.reason
    floor = "undefined" if isinstance(figure.floor, NotMeasured) else f"{figure.floor:.3f}"
    return f"{figure.value:.3f} (floor {floor})"


def _group(utility: Utility) -> str | NotMeasured:
    """The group with the largest loss of the first model whose loss has an interval there."""
    found: list[tuple[float, GroupUtility, str, Trained]] = []
    for group in utility.groups:
        for name, trained in list(group.models.items())[:1]:
            if decided(trained.loss) and group.patients >= LEAST_PATIENTS:
                assert isinstance(trained.loss, Estimate)
                found.append((trained.loss.value, group, name, trained))
    if not found:
        return NO_GROUP
    _, group, name, trained = max(found, key=lambda entry: entry[0])
    loss, floor = trained.loss, trained.floor
    assert isinstance(loss, Estimate)
    assert isinstance(loss.interval, Interval)
    beside_floor = f"; floor {floor.value:+.3f}" if isinstance(floor, Estimate) else ""
    interval = f"{loss.interval.low:+.3f} to {loss.interval.high:+.3f}{beside_floor}"
    return (
        f"{group.attribute} {group.level} ({group.patients} test patients): {name.replace('_', ' ')} loses "
        f"{loss.value:+.3f} {TITLES[utility.headline]} ({interval})"
    )


def decided(figure: Estimate | NotMeasured) -> bool:
    """Whether a figure rests on enough patients to have an interval."""
    return isinstance(figure, Estimate) and isinstance(figure.interval, Interval)
