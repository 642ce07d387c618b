"""The figures: each is drawn from a plain table, which is also what its CSV holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pettoolkit.report.page import INK, OKABE_ITO, SOFT, data_link, drawing, svg

MARKERS = "osD^vP*X<>"
BLUE, ORANGE, GREEN = OKABE_ITO[:3]
WIDTH = 9.0
"""Inches."""
LINE_HEIGHT = 0.27

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Drawn:
    """A figure with the sentence that says how to read it, and its data."""

    title: str
    svg: str
    how: str
    link: str


@dataclass(frozen=True)
class Table:
    """What is drawn: named columns and their records."""

    name: str
    columns: tuple[str, ...]
    records: tuple[Record, ...]

    def link(self) -> str:
        """Link that saves it as CSV."""
        return data_link(
            f"{self.name}.csv", self.columns, ([_cell(r.get(c, "")) for c in self.columns] for r in self.records)
        )


def utility_against_risk(table: Table, threshold: Mapping[str, float]) -> Drawn:
    """One panel per view; ``row, view, name, auroc, low, high, risk, risk_low, risk_high``."""
    views = list(dict.fromkeys(r["view"] for r in table.records))
    with _axes(len(views), 4.2) as (figure, axes):
        for axis, view in zip(axes, views, strict=True):
            mine = [r for r in table.records if r["view"] == view]
            for record in mine:
                axis.errorbar(
                    record["risk"],
                    record["auroc"],
                    xerr=_reach(record, "risk", "risk_low", "risk_high"),
                    yerr=_reach(record, "auroc", "low", "high"),
                    fmt="o",
                    color=BLUE,
                    ecolor=SOFT,
                    markersize=5,
                )
            for at, numbers in _coinciding(mine).items():
                axis.annotate(numbers, at, (5, 4), textcoords="offset points", fontsize=8)
            front = pareto([(r["risk"], r["auroc"]) for r in mine])
            axis.plot(
                *zip(*front, strict=True),
                color=GREEN,
                linestyle="--",
                marker="o",
                markersize=10,
                markerfacecolor="none",
                drawstyle="steps-post",
                label="Pareto front",
            )
            axis.axvline(threshold[view], color=ORANGE, linestyle=":", label=f"threshold {threshold[view]:.2f}")
            axis.set_title(f"{view} view")
            axis.set_xlabel("excess risk of the strongest attack")
            axis.legend(loc="lower right", fontsize=7.5)
        axes[0].set_ylabel("AUROC, mean over hospitals")
        return _done(
            "Utility against measured risk",
            figure,
            table,
            "Up is more accurate, left is less risk, and numbers are those of the decision table: what has no ring is "
            "matched or beaten in both by something on the dashed line (the Pareto front, of the points alone: where "
            "bars overlap it names no winner).",
        )


def _coinciding(records: Sequence[Record]) -> dict[tuple[float, float], str]:
    """Place of each label; rows that lie on each other have one label."""
    places: dict[tuple[float, float], list[Record]] = {}
    for record in records:
        places.setdefault((round(record["risk"], 2), round(record["auroc"], 2)), []).append(record)
    return {(m[0]["risk"], m[0]["auroc"]): ", ".join(str(r["row"]) for r in m) for m in places.values()}


def pareto(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points ``(risk, utility)`` of which no other has less risk and more utility, by risk."""
    front: list[tuple[float, float]] = []
    for risk, utility in sorted(points, key=lambda p: (p[0], -p[1])):
        if not front or utility > front[-1][1]:
            front.append((risk, utility))
    return front


def by_hospital(table: Table) -> Drawn:
    """``row, name, hospital, auroc, low, high, worst``; hospital ``*`` is the mean with its interval."""
    names = _names(table)
    with _axes(1, _height(len(names))) as (figure, (axis,)):
        for y, name in enumerate(names):
            mine = [r for r in table.records if r["name"] == name]
            mean = next((r for r in mine if r["hospital"] == "*"), None)
            if mean is not None and mean["low"] != "":
                axis.plot([mean["low"], mean["high"]], [y, y], color=SOFT, linewidth=5, solid_capstyle="butt", zorder=1)
            if mean is not None:
                axis.plot([mean["auroc"]] * 2, [y - 0.3, y + 0.3], color=INK, linewidth=1.5, zorder=2)
            sites = [r for r in mine if r["hospital"] != "*" and not r["worst"]]
            axis.plot([r["auroc"] for r in sites], [y] * len(sites), "o", color=BLUE, markersize=4.5, zorder=3)
            for worst in (r for r in mine if r["worst"]):
                axis.plot(worst["auroc"], y, "D", color=ORANGE, markersize=5.5, zorder=4)
                axis.annotate(
                    worst["hospital"],
                    (worst["auroc"], y),
                    (-6, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    fontsize=7.5,
                )
        _rows_on(axis, table, names)
        axis.margins(x=0.12)
        axis.set_xlabel("AUROC")
        return _done(
            "Accuracy by hospital",
            figure,
            table,
            "A blue dot is one hospital, the orange diamond the one that is served worst, the stroke the mean over "
            "hospitals with its 95 % interval.",
        )


def dots(title: str, how: str, table: Table, panels: Mapping[str, str]) -> Drawn:
    """One panel per column of ``panels`` (column to label), on a logarithmic scale; ``row, name`` and the columns."""
    names = _names(table)
    with _axes(len(panels), _height(len(names))) as (figure, axes):
        for axis, (column, label) in zip(axes, panels.items(), strict=True):
            known = [(r[column], names.index(r["name"])) for r in table.records if r[column] not in ("", 0)]
            axis.plot([x for x, _ in known], [y for _, y in known], "o", color=BLUE)
            nothing = [names.index(r["name"]) for r in table.records if r[column] == 0]
            if known:
                axis.set_xscale("log")
                axis.minorticks_off()
            start = min((x for x, _ in known), default=1.0)
            axis.plot([start / 3] * len(nothing), nothing, "x", color=ORANGE)
            axis.set_xlabel(label)
        _rows_on(axes[0], table, names)
        return _done(title, figure, table, how)


def curves(
    title: str, how: str, table: Table, x: str, label: str, lines: Mapping[str, float] | None = None, *, log: bool
) -> Drawn:
    """Curves ``series, <x>, auroc, low, high``; ``lines`` are levels of rows that have no place on the axis."""
    series = list(dict.fromkeys(r["series"] for r in table.records))
    with _axes(1, 3.8 + 0.1 * len(series)) as (figure, (axis,)):
        for i, name in enumerate(series):
            mine = sorted((r for r in table.records if r["series"] == name), key=lambda r: float(r[x]))
            shift = (1 + 0.02 * (i - len(series) / 2)) if log else 1  # intervals beside, not on each other
            axis.errorbar(
                [r[x] * shift for r in mine],
                [r["auroc"] for r in mine],
                yerr=[[e[j][0] for r in mine if (e := _reach(r, "auroc", "low", "high"))] for j in (0, 1)],
                marker=MARKERS[i % len(MARKERS)],
                color=OKABE_ITO[i % 6],
                markersize=5,
                capsize=2,
                linewidth=1.2,
                label=name,
            )
        for i, (name, level) in enumerate((lines or {}).items()):
            axis.axhline(level, color=INK, linewidth=0.9, linestyle=("--", ":", "-.")[i % 3], label=name)
        if log:
            ticks = sorted({r[x] for r in table.records})
            axis.set_xscale("log")
            axis.minorticks_off()
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axis.set_xlabel(label)
        axis.set_ylabel("AUROC")
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
        return _done(title, figure, table, how)


@contextmanager
def _axes(columns: int, height: float) -> Iterator[tuple[Any, Any]]:
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.subplots(1, columns, squeeze=False, sharey=True)[0]


def _done(title: str, figure: Any, table: Table, how: str) -> Drawn:
    return Drawn(title, svg(figure, title), how, table.link())


def _height(rows: int) -> float:
    return 1.0 + LINE_HEIGHT * rows


def _names(table: Table) -> list[str]:
    return list(dict.fromkeys(r["name"] for r in table.records))


def _rows_on(axis: Any, table: Table, names: Sequence[str]) -> None:
    numbers = {r["name"]: r["row"] for r in table.records}
    axis.set_yticks(range(len(names)), [f"{name}  {numbers[name]}" for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)


def _reach(record: Record, value: str, low: str, high: str) -> list[list[float]]:
    """Distances of an interval's ends; none where there is no interval."""
    if record[low] == "":
        return [[0.0], [0.0]]
    return [[max(0.0, record[value] - record[low])], [max(0.0, record[high] - record[value])]]


def _cell(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
