"""The report's sentences and cells: what a figure says, and what it leaves open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pettoolkit.records import Guarantee, Interval, NotMeasured
from pettoolkit.report.comparison.rows import (
    CONTROL,
    ENOUGH_SEEDS,
    FAILS,
    MARGIN,
    MEMBERSHIP,
    VIEWS,
    Difference,
    Risk,
    Row,
    View,
)
from pettoolkit.report.terminal import AUROC, UNSEEN, humanised

WHOM = {"pooled": "a model on pooled real data", "local": "hospitals that stay alone"}

FEW = 6
"""So many undecided rows are named one by one."""

STATES = {
    "better": "good",
    "worse": "bad",
    "no difference": "good",
    "undecided": "open",
    "below": "good",
    "above": "bad",
}
"""State to the style's class."""


@dataclass(frozen=True)
class Said:
    """Text with a class of the style: ``good``, ``bad``, ``open`` or none."""

    text: str
    style: str = ""
    word: str = ""
    """The part of the text that has the style."""


@dataclass(frozen=True)
class Judged:
    """One technology's verdict."""

    row: Row
    lines: tuple[Said, ...]


@dataclass(frozen=True)
class Column:
    """A column of the decision table."""

    name: str
    cells: tuple[Said, ...]


def verdict(
    row: Row, differences: Sequence[Difference], names: dict[int, str], others: Sequence[Difference] = ()
) -> Judged:
    """Say what one technology costs, guarantees, gives away and whom it trusts, in words."""
    said = [Said(f"AUROC {figure(row.line.mean(AUROC), row.line.interval(AUROC))}.")]
    mine = [d for d in differences if d.row == row.number]
    said += [Said(compared(d, names), STATES[d.state], d.state) for d in mine]
    if not mine and any(d.other == row.number for d in differences):
        said.append(Said("The others are compared with it."))
    elif not mine:
        said.append(Said("Not compared: there is no pooled and no local row of the same model and hospitals."))
    if against := _each_other(row, others):
        said.append(Said(against))
    said.append(Said(_promised(row)))
    said += [Said(_attacked(row))] if all(isinstance(row.risk(v), NotMeasured) for v in VIEWS) else _risks(row)
    left = row.line.kinds_out()
    kinds = ", ".join(kind.replace("_", " ") for kind in left)
    said.append(Said(f"Left a hospital: {humanised(row.line.bytes_out())} of {kinds}." if left else "Nothing left."))
    said.append(Said(f"Whom one must trust: {row.line.results[0].privacy.trust}."))
    return Judged(row, tuple(said))


def compared(difference: Difference, names: dict[int, str]) -> str:
    """Say what a paired difference decides, and what it leaves open."""
    interval = difference.interval
    figures = (
        f"{signed(difference.value)} ({signed(interval.low)} to {signed(interval.high)}, p {said_p(difference.p)})"
    )
    other = f"{WHOM[difference.role]} (row {difference.other}, {names[difference.other]})"
    if difference.state == "undecided":
        why = (
            f"with {_count(difference.seeds, 'seed')} nothing is decided, {ENOUGH_SEEDS} are needed"
            if difference.seeds < ENOUGH_SEEDS
            else "the interval spans 0 and leaves the margin"
        )
        return f"Against {other}: undecided, {figures}; {why}."
    if difference.state == "no difference":
        return f"Against {other}: no difference beyond {MARGIN:g}, {figures}."
    return f"Against {other}: {difference.state}, {figures}."


def table(rows: Sequence[Row], differences: Sequence[Difference]) -> list[Column]:
    """Columns of the decision table, in the order of the issue of a decision: accuracy first, failure last."""
    unseen = any(row.line.spec.unseen for row in rows)
    bounded = any(row.allowed(view) for row in rows for view in VIEWS)
    return [
        Column("AUROC (95 %)", tuple(Said(figure(r.line.mean(AUROC), r.line.interval(AUROC))) for r in rows)),
        *(_against(role, rows, differences) for role in WHOM if any(d.role == role for d in differences)),
        Column("worst hospital", tuple(Said(_worst(r)) for r in rows)),
        *(
            [Column("unseen hospital", tuple(Said(figure(r.line.mean(UNSEEN), r.line.interval(UNSEEN))) for r in rows))]
            if unseen
            else []
        ),
        Column("guarantee", tuple(Said(_guarantee(r)) for r in rows)),
        Column("measured risk: release", tuple(_risk(r.risk("release")) for r in rows)),
        Column("measured risk: insider", tuple(_risk(r.risk("insider")) for r in rows)),
        *([Column("attacks beside their bound", tuple(Said(_beside(r)) for r in rows))] if bounded else []),
        Column("what left a hospital", tuple(Said(_left(r)) for r in rows)),
        Column("reversible, by whom", tuple(Said(r.line.results[0].privacy.reversible) for r in rows)),
        Column("owner keeps control", tuple(Said(CONTROL[r.worst_kind]) for r in rows)),
        Column("cost: hospitals / coordinator", tuple(Said(_cost(r)) for r in rows)),
        Column("whom one must trust", tuple(Said(r.line.results[0].privacy.trust) for r in rows)),
        Column("if parties collude", tuple(Said(r.line.results[0].privacy.leaks_if_collude) for r in rows)),
        Column("how it fails", tuple(Said(FAILS[r.worst_kind]) for r in rows)),
    ]


def figure(value: float | NotMeasured, interval: Interval | NotMeasured) -> str:
    """``0.703 (0.677 to 0.728)``."""
    if isinstance(value, NotMeasured):
        return "undefined"
    ends = "interval unknown" if isinstance(interval, NotMeasured) else f"{interval.low:.3f} to {interval.high:.3f}"
    return f"{value:.3f} ({ends})"


def _against(role: str, rows: Sequence[Row], differences: Sequence[Difference]) -> Column:
    found = {d.row: d for d in differences if d.role == role}
    cells = []
    for row in rows:
        d = found.get(row.number)
        if d is None:
            cells.append(Said("-" if row.line.spec.arm == role else "not compared"))
        else:
            span = f"{signed(d.value)} ({signed(d.interval.low)} to {signed(d.interval.high)})"
            cells.append(Said(f"{d.state}: {span}", STATES[d.state], d.state))
    return Column(f"against {role}", tuple(cells))


def _promised(row: Row) -> str:
    if row.guaranteed:
        return f"Guaranteed for each patient: {row.line.guarantee()}."
    dp = row.line.spec.dp
    if dp is not None and dp.target == "downstream":
        return f"No guarantee for a patient: only training on the synthetic rows is private (epsilon {dp.epsilon:g})."
    return "No guarantee for a patient."


def _attacked(row: Row) -> str:
    found = row.risk("release")
    why = found.reason if isinstance(found, NotMeasured) else ""
    return f"Risk was not measured: {why}."


def _risks(row: Row) -> list[Said]:
    said = []
    for view in VIEWS:
        found = row.risk(view)
        if isinstance(found, NotMeasured):
            said.append(Said(f"Measured risk, {view} view: not measured ({found.reason})."))
        else:
            span = f"{_two(found.interval.low)} to {_two(found.interval.high)}"
            text = f"strongest attack {_two(found.value)} ({span}), {found.state} the threshold {found.threshold:.2f}"
            text = text.replace("undecided the threshold", "undecided against the threshold")
            text = f"Measured risk, {view} view: {text}: {found.why}."
            said.append(Said(text, STATES[found.state], found.state))
        if allowed := _allowed(row, view):
            said.append(
                Said(f"What attacks on the {view} view got, and what the guarantee leaves room for: {allowed}.")
            )
    return said


def _allowed(row: Row, view: View) -> str:
    """What membership attacks reached beside what the guarantee leaves room for; empty without a guarantee."""
    return "; ".join(
        f"{MEMBERSHIP[measure]} {success:.3f} of at most {bound:.3f}"
        for measure, (success, bound) in row.allowed(view).items()
    )


def _each_other(row: Row, others: Sequence[Difference]) -> str:
    """Which rows it is better or worse than, besides the references; empty if it is compared with no other."""
    found: dict[str, list[int]] = {}
    turned = {"better": "worse", "worse": "better"}
    for d in others:
        if row.number == d.row:
            found.setdefault(d.state, []).append(d.other)
        elif row.number == d.other:
            found.setdefault(turned.get(d.state, d.state), []).append(d.row)
    words = {"better": "better than", "worse": "worse than", "no difference": "no difference from"}
    said = [
        f"{words.get(state, 'undecided against')} {_count(len(numbers), 'other')}"
        if state == "undecided" and len(numbers) > FEW
        else f"{words.get(state, 'undecided against')} row{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"
        for state in (*words, "undecided")
        if (numbers := found.get(state))
    ]
    return f"Against each other technology: {'; '.join(said)}." if said else ""


def _risk(found: Risk | NotMeasured) -> Said:
    if isinstance(found, NotMeasured):
        return Said("not measured")
    span = f"{_two(found.interval.low)} to {_two(found.interval.high)}"
    return Said(f"{found.state}: {_two(found.value)} ({span})", STATES[found.state], found.state)


def _beside(row: Row) -> str:
    said = [f"{view}: {allowed}" for view in VIEWS if (allowed := _allowed(row, view))]
    return "; ".join(said) or "no guarantee, hence no bound"


def _guarantee(row: Row) -> str:
    said = row.line.guarantee()
    stated = row.line.results[0].privacy.guarantee
    return f"{said}; delta {stated.delta:g}" if isinstance(stated, Guarantee) else said


def _worst(row: Row) -> str:
    worst = row.line.worst()
    return "undefined" if isinstance(worst, NotMeasured) else f"{worst[0]} {worst[1]:.3f}"


def _left(row: Row) -> str:
    kinds = ", ".join(kind.replace("_", " ") for kind in row.line.kinds_out())
    return f"{humanised(row.line.bytes_out())}: {kinds}" if kinds else "nothing"


def _cost(row: Row) -> str:
    hospital = row.cost(lambda r: r.cost.cpu_seconds_site_max)
    outside = row.cost(lambda r: r.cost.cpu_seconds_coordinator)
    if isinstance(hospital, NotMeasured) or isinstance(outside, NotMeasured):
        return f"{row.line.seconds():.3g} s in all"
    return f"{hospital:.2g} s / {outside:.2g} s CPU"


def signed(value: float) -> str:
    """Three decimals with sign, a true minus, and no sign before zero."""
    rounded = round(value, 3) + 0.0
    return f"{rounded:+.3f}".replace("-", "\N{MINUS SIGN}") if rounded else "0.000"


def said_p(value: float) -> str:
    """Three decimals; never 0."""
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _two(value: float) -> str:
    """Two decimals, and no minus before zero."""
    return f"{round(value, 2) + 0.0:.2f}"


def _count(number: int, what: str) -> str:
    return f"1 {what}" if number == 1 else f"{number} {what}s"
