"""What the commands print: the comparison table, one block per arm, the plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from pettoolkit.records import DpSpec, Interval, NotMeasured, RunSpec, Summary
from pettoolkit.report import measured
from pettoolkit.report.lines import Line, lines, vary
from pettoolkit.report.listing import Reported

PIPE_WIDTH = 160
"""Columns where the output is not a terminal, so that nothing is cut."""

AUROC = "utility/auroc"
UNSEEN = "robustness/auroc_unseen_site"
WHOLE = ("AUROC (95 %)", "at unseen hospitals", "worst hospital", "seconds")
"""Columns of the table whose texts are never wrapped."""
LEFT = "bytes out per hospital"
RISK = "risk: release / insider"
FIT = "cost/fit_seconds"
FITTED_ONCE = (
    "Seconds are those of training, scoring aside. A generator is fitted once for all models: only the first cell that "
    "needs it holds the fit, and `show` says how long it took."
)
GAP = 2
"""Blanks between columns."""


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or :data:`PIPE_WIDTH` where there is none."""
    found = Console(stderr=stderr, highlight=False, markup=False)
    if not found.is_terminal:
        found.width = PIPE_WIDTH
    return found


def comparison(cells: Sequence[Reported], summaries: Sequence[Summary] = (), together: str = "") -> RenderableType:
    """Table of the finished cells, one line per arm, variant, model and setting, with what went wrong below it.

    ``together`` says what the guarantees of all of them add up to.
    """
    found = lines(cells, summaries)
    parts: list[RenderableType] = [_table(found)] if found else [Text("No cell is finished yet.")]
    if any(len(line.results) > 1 for line in found):
        parts.append(Text("Means over seeds (and over hospitals left out in turn); worst hospital: of these means."))
    elif single := one_seed(found):
        parts.append(Text(single))
    if sum(not isinstance(line.mean(FIT), NotMeasured) for line in found) > 1:
        parts.append(Text(FITTED_ONCE))
    if together:
        parts.append(Text(together))
    parts += _troubles(cells)
    return Group(*parts)


def blocks(cells: Sequence[Reported], summaries: Sequence[Summary] = ()) -> RenderableType:
    """One block per arm: what left the hospital, whom one must trust, guarantee, measured, AUROC by hospital."""
    found = lines(cells, summaries)
    settings = _settings([line.spec for line in found])
    return Group(*(_block(line, [f"{name} {value(line)}" for name, value in settings]) for line in found))


def one_seed(found: Sequence[Line]) -> str:
    """Say how far a single hospital's AUROC of one seed can be trusted; empty where no hospital has an interval."""
    rows = [figures for line in found for r in line.results for figures in r.per_site.values()]
    positives = [n for row in rows if isinstance(n := row.get("positives"), float)]
    reach = [
        (high - low) / 2
        for row in rows
        if isinstance(low := row.get("auroc_low"), float) and isinstance(high := row.get("auroc_high"), float)
    ]
    if not reach or not positives:
        return ""
    return (
        f"One seed, and {min(positives):g} to {max(positives):g} test patients with the outcome per hospital: a single "
        f"hospital's AUROC, the worst one's too, is known to within {min(reach):.2f} to {max(reach):.2f} either way "
        "(95 %); more seeds tell more."
    )


def plan(cells: Sequence[Reported]) -> RenderableType:
    """Table of the cells of an experiment before a run, and how many there are of each status."""
    settings = _settings([cell.spec for cell in cells])
    table = _empty("arm", "model", *(name for name, _ in settings), "seed", "status", "why", right=("seed",))
    counts: dict[str, int] = {}
    for cell in cells:
        counts[cell.status] = counts.get(cell.status, 0) + 1
        line = Line(cell.spec, ())
        texts = [value(line) for _, value in settings]
        table.add_row(line.arm, line.model, *texts, str(cell.spec.seed), cell.status, cell.reason)
    said = ", ".join(f"{n} {status}" for status, n in counts.items())
    return Group(table, Text(f"{_cells(len(cells))}: {said}"))


def humanised(count: float) -> str:
    """Bytes in decimal units, three significant digits: ``1.23 MB``; ``nothing`` for 0."""
    if count <= 0:
        return "nothing"
    for unit in ("B", "kB", "MB"):
        if count < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


class Shown(Protocol):
    """Shows that ``doing`` is running, and that ``done`` of ``total`` cells are finished."""

    def __call__(self, doing: str, done: int, total: int) -> None:
        """Show it."""


@contextmanager
def progress(out: Console) -> Iterator[Shown]:
    """Show what runs where: a bar in a terminal, otherwise a line per message."""
    if not out.is_terminal:
        yield lambda doing, done, total: out.print(f"[{done}/{total}] {doing}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (MofNCompleteColumn(), BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=out, transient=True) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda doing, done, total: bar.update(task, description=doing, completed=done, total=total)


class _Fitted:
    """The table in the width that there is: on 120 columns texts wrap between words and figures stay whole.

    Left to itself, rich narrows the widest columns first, through words and figures.
    """

    def __init__(self, columns: Sequence[tuple[str, Callable[[Line], str]]], found: Sequence[Line]) -> None:
        self._names = [name for name, _ in columns]
        self._rows = [[text(line) for _, text in columns] for line in found]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        natural = [max(map(len, column)) for column in zip(self._names, *self._rows, strict=True)]
        wide_enough = sum(natural) + GAP * (len(natural) - 1) <= options.max_width
        table = Table(header_style="bold", box=None, pad_edge=False)
        for i, name in enumerate(self._names):
            cells = [row[i] for row in self._rows]
            width = (
                None if wide_enough or name == LEFT else max(len(p) for cell in cells for p in _unbroken(name, cell))
            )
            table.add_column(name, justify="right" if name == "seconds" else "left", width=width)
        for row in self._rows:
            table.add_row(*row)
        yield table


def _table(found: Sequence[Line]) -> _Fitted:
    specs = [line.spec for line in found]
    unseen = any(spec.unseen for spec in specs)
    attacked = any(measured.headline(line.results) != "-" for line in found)
    columns: list[tuple[str, Callable[[Line], str]]] = [
        ("arm, model", lambda line: f"{line.arm} {line.model}"),
        *_settings(specs, budget=False),
        *_budgets(specs),
        ("AUROC (95 %)", lambda line: _figure(line.mean(AUROC), line.interval(AUROC))),
        *([("at unseen hospitals", _at_unseen)] if unseen else []),
        ("worst hospital", _worst),
        ("seconds", lambda line: f"{line.seconds():.1f}"),
        ("guarantee", Line.guarantee),
        *([(RISK, lambda line: measured.headline(line.results))] if attacked else []),
        (LEFT, _left),
    ]
    return _Fitted(columns, found)


def _unbroken(column: str, text: str) -> list[str]:
    """Pieces of a cell between which it may be wrapped."""
    if column in WHOLE:
        return [text, column]
    if column == "guarantee":  # the headline is epsilon under both adjacencies
        return [f"{text.partition(';')[0]};" if ";" in text else text]
    return [*text.split(), column]


def _block(line: Line, settings: Sequence[str]) -> Panel:
    first = line.results[0]
    body = Table.grid(padding=(0, 2))
    body.add_column(no_wrap=True)
    body.add_column()
    out_of_band = sorted({item for r in line.results for item in r.exposure.out_of_band})
    left = f"{_kinds(line)} ({humanised(line.bytes_out())} per hospital)" if line.kinds_out() else "nothing"
    figures: list[tuple[str, str]] = [
        ("AUROC (95 %)", _figure(line.mean(AUROC), line.interval(AUROC))),
        ("what left the hospital", "; ".join([left, *out_of_band])),
        ("whom one must trust", first.privacy.trust),
        ("if parties collude", first.privacy.leaks_if_collude),
        ("reversible", first.privacy.reversible),
        *_guarantee(line),
        *measured.rows(first.privacy.measured),
        ("AUROC by hospital", _by_site(line)),
        *_by_subgroup(line),
        ("seconds", _seconds(line)),
    ]
    if line.spec.unseen:
        figures.insert(1, ("at unseen hospitals", _at_unseen(line)))
    for name, text in figures:
        body.add_row(Text(name, style="bold"), Text(text))
    return Panel(body, title=Text(", ".join([line.arm, line.model, *settings])), title_align="left")


def _settings(specs: Sequence[RunSpec], *, budget: bool = True) -> list[tuple[str, Callable[[Line], str]]]:
    """Columns for what is not the same everywhere; ``budget`` says whether the epsilon asked for is one of them."""
    every: dict[str, tuple[str, Callable[[Line], str]]] = {
        "features": ("features", lambda line: line.spec.features),
        "dp": ("dp", lambda line: f"{line.spec.dp.epsilon:g} {line.spec.dp.noise}" if line.spec.dp else "-"),
        "unseen": ("unseen", lambda line: line.unseen or "-"),
        "patients_per_site": ("patients per hospital", lambda line: str(line.spec.patients_per_site or "all")),
    }
    if not budget:
        del every["dp"]
    chosen = [every[name] for name in vary(specs, *every)]
    if len({len(spec.sites) for spec in specs}) > 1:
        chosen.append(("hospitals", lambda line: str(len(line.spec.sites))))
    return chosen


def _budgets(specs: Sequence[RunSpec]) -> list[tuple[str, Callable[[Line], str]]]:
    """Columns for what else a budget says, where it is not the same within an arm (epsilon is in the guarantee)."""
    by_arm: dict[str, list[DpSpec]] = {}
    for spec in specs:
        if spec.dp is not None:
            by_arm.setdefault(spec.arm, []).append(spec.dp)

    def column(field: str) -> tuple[str, Callable[[Line], str]]:
        return f"dp.{field}", lambda line: "-" if line.spec.dp is None else str(getattr(line.spec.dp, field) or "-")

    fields = ("noise", "delta", "honest_sites", "gradients", "batch", "target")
    return [column(f) for f in fields if any(len({getattr(dp, f) for dp in dps}) > 1 for dps in by_arm.values())]


def _troubles(cells: Sequence[Reported]) -> list[RenderableType]:
    """What is not in the table and why, each reason once."""
    counts: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        if cell.status in ("failed", "excluded", "missing"):
            line = Line(cell.spec, ())
            key = (cell.status, f"{line.arm}, {line.model}", cell.reason)
            counts[key] = counts.get(key, 0) + 1
    return [
        Text(f"{status}: {about} ({_cells(n)}): {reason}", style="red" if status == "failed" else "dim")
        for (status, about, reason), n in counts.items()
    ]


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"


def _empty(*names: str, right: Sequence[str]) -> Table:
    table = Table(header_style="bold", box=None, pad_edge=False)
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", no_wrap=name in ("arm", "model", "status"))
    return table


def _figure(value: float | NotMeasured, interval: Interval | NotMeasured) -> str:
    if isinstance(value, NotMeasured):
        return "undefined"
    ends = "" if isinstance(interval, NotMeasured) else f" ({interval.low:.3f}-{interval.high:.3f})"
    return f"{value:.3f}{ends}"


def _at_unseen(line: Line) -> str:
    return _figure(line.mean(UNSEEN), line.interval(UNSEEN))


def _left(line: Line) -> str:
    return f"{humanised(line.bytes_out())}: {_kinds(line)}" if line.kinds_out() else "nothing"


def _worst(line: Line) -> str:
    worst = line.worst()
    return "undefined" if isinstance(worst, NotMeasured) else f"{worst[0]} {worst[1]:.3f}"


def _seconds(line: Line) -> str:
    fit = line.mean(FIT)
    fitted = "" if isinstance(fit, NotMeasured) else f"; fitting the generators, once for all models: {fit:.1f} in all"
    return f"{line.seconds():.1f} of training, scoring aside{fitted}"


def _kinds(line: Line) -> str:
    return ", ".join(kind.replace("_", " ") for kind in line.kinds_out()) or "nothing"


def _guarantee(line: Line) -> list[tuple[str, str]]:
    """The rows of a block that say what is guaranteed to patients, under which assumptions, and what is not."""
    stated = line.results[0].privacy.guarantee
    if isinstance(stated, NotMeasured):
        return [("guarantee", f"none ({stated.reason})")]
    rows = [
        ("guarantee", f"{line.guarantee()}; delta {stated.delta:g}; unit: {stated.unit}"),
        ("how", f"{stated.mechanism}; accountant: {stated.accountant}"),
    ]
    if stated.epsilon_if_sites_collude:
        by_number = sorted(stated.epsilon_if_sites_collude.items(), key=lambda item: int(item[0]))
        figures = ", ".join(f"{c}: {epsilon:.3g}" for c, epsilon in by_number)
        how = "so many together; each knows its own noise, no coordinator helps"
        rows.append(("epsilon against hospitals", f"{figures} ({how})"))
    rows += [
        (name, "; ".join(said))
        for name, said in (("assumes", stated.assumptions), ("does not cover", stated.not_covered))
        if said
    ]
    return rows


def _by_site(line: Line) -> str:
    def said(site: str, auroc: float | NotMeasured) -> str:
        unseen = " (unseen)" if site in line.spec.unseen and not line.left_out else ""
        return f"{site}{unseen} " + ("undefined" if isinstance(auroc, NotMeasured) else f"{auroc:.3f}")

    return ", ".join(said(site, auroc) for site, auroc in line.site_auroc().items()) or "undefined"


def _by_subgroup(line: Line) -> list[tuple[str, str]]:
    """A row for each attribute; the gap is between its best and its worst level."""
    return [
        (
            f"AUROC by {attribute}",
            ", ".join(f"{level}: {value:.3f}" for level, value in levels.items())
            + (f"; gap {max(levels.values()) - min(levels.values()):.3f}" if len(levels) > 1 else ""),
        )
        for attribute, levels in line.subgroup_auroc().items()
    ]
