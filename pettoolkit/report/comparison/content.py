"""What stands in the report, section by section; the template only lays it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pettoolkit.report.comparison import figures, tables
from pettoolkit.report.comparison.figures import Drawn, Table
from pettoolkit.report.comparison.rows import ENOUGH_SEEDS, MARGIN, Difference, Row
from pettoolkit.report.comparison.words import STATES, Column, said_p, signed, table, verdict
from pettoolkit.report.page import page

TEMPLATES = Path(__file__).parents[1] / "templates"
LIMIT_BYTES = 1_000_000
"""The report is smaller than this."""
LISTED_PAIRS = 40
"""Pairs that the page lists, those that are decided first; all of them are in its CSV."""


@dataclass(frozen=True)
class Facts:
    """What the report says about the experiment besides its cells."""

    experiment: str
    """Its name."""
    file: str
    """As a person writes it after ``pettoolkit run``."""
    source: str
    """``simulated``, ``physionet2019`` or ``tables``."""
    seeds: tuple[int, ...]
    notes: tuple[str, ...] = ()
    """Lines under the table: alone or together, what all guarantees add up to, what the contract leaves open."""
    troubles: tuple[str, ...] = ()
    """Cells without a result, and why."""
    dropped: tuple[str, ...] = ()
    """Notes of cells that went on without a hospital."""


@dataclass(frozen=True)
class Section:
    """A part of the report: figures, tables, or the sentence that says how to get them."""

    anchor: str
    title: str
    drawn: tuple[Drawn, ...] = ()
    missing: str = ""


def html(rows: Sequence[Row], differences: Sequence[Difference], others: Sequence[Difference], facts: Facts) -> str:
    """Write the whole page.

    Parameters
    ----------
    rows
        Rows of the decision table (:func:`~pettoolkit.report.comparison.rows.rows`), at least one.
    differences
        Paired differences to the references; their intervals hold together.
    others
        Those of all other pairs; their intervals hold together too.
    facts
        About the experiment.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    body = environment.get_template("comparison.html").render(**context(rows, differences, others, facts))
    return page(f"{facts.experiment}: technologies compared", body)


def context(
    rows: Sequence[Row], differences: Sequence[Difference], others: Sequence[Difference], facts: Facts
) -> dict[str, Any]:
    """Everything that the template names."""
    names = {row.number: row.name for row in rows}
    columns = table(rows, differences)
    sections = [
        _risk(rows, facts),
        _hospitals(rows),
        _epsilon(rows),
        _diversity(rows),
        _costs(rows),
    ]
    return {
        "facts": facts,
        "rows": rows,
        "verdicts": [verdict(row, differences, names, others) for row in rows],
        "compared": len(differences),
        "pairs": sorted(others, key=lambda d: d.state == "undecided")[:LISTED_PAIRS],
        "pair_counts": Counter(d.state for d in others),
        "pair_states": STATES,
        "signed": signed,
        "said_p": said_p,
        "compared_pairs": len(others),
        "names": names,
        "same": _same(rows, facts.dropped),
        "unseen": any(row.line.spec.unseen for row in rows),
        "margin": MARGIN,
        "columns": columns,
        "decision_link": _decisions(rows, columns).link(),
        "differences_link": _differences("paired_differences", differences, names).link(),
        "pairs_link": _differences("paired_differences_each_other", others, names).link(),
        "sections": sections,
        "matrices": [_matrix(row, found) for row in rows if (found := tables.matrix(row)) is not None],
        "traffic": tables.traffic(rows),
        "out_of_band": _out_of_band(rows),
        "groups": _groups(rows),
        "people": _people(rows),
        "few_seeds": len(facts.seeds) < ENOUGH_SEEDS,
        "enough_seeds": ENOUGH_SEEDS,
    }


def _risk(rows: Sequence[Row], facts: Facts) -> Section:
    found = tables.risk(rows)
    missing = (
        f"No attacks were run. To measure what attackers gain: pettoolkit run {facts.file} --set attacks=quick, then "
        f"pettoolkit report {facts.file} --set attacks=quick."
    )
    drawn = (figures.utility_against_risk(found, tables.thresholds(rows)),) if found.records else ()
    return Section("risk", "Utility against measured risk", drawn, "" if drawn else missing)


def _hospitals(rows: Sequence[Row]) -> Section:
    found = tables.hospitals(rows)
    drawn = (figures.by_hospital(found),) if found.records else ()
    missing = "" if drawn else "No hospital has patients of both outcomes among those tested."
    return Section("hospitals", "Accuracy by hospital", drawn, missing)


def _epsilon(rows: Sequence[Row]) -> Section:
    found, without = tables.epsilons(rows)
    missing = (
        "No row has differential privacy. For curves over the budget: pettoolkit run builtin:privacy_sweep, then "
        "pettoolkit report builtin:privacy_sweep."
    )
    if not found.records:
        return Section("epsilon", "Accuracy by privacy budget", missing=missing)
    how = (
        "Left is the stronger guarantee; where a curve stays below the line of its technology without differential "
        "privacy, the gap is the price of the guarantee (bars: 95 % intervals over patients)."
    )
    drawn = figures.curves(
        "Accuracy by privacy budget", how, found, "epsilon", "epsilon of a patient (asked for)", without, log=True
    )
    return Section("epsilon", "Accuracy by privacy budget", (drawn,))


def _diversity(rows: Sequence[Row]) -> Section:
    title = "Accuracy by number of hospitals"
    if len({len(row.line.spec.sites) for row in rows}) < 2:
        missing = (
            "All rows train on as many hospitals. To see what more hospitals bring to a hospital that did not train: "
            "pettoolkit run builtin:diversity, then pettoolkit report builtin:diversity."
        )
        return Section("diversity", title, missing=missing)
    how = (
        "A rising curve means that more hospitals in training help, with as many patients in all where said, at "
        "unseen hospitals where some are left out (bars: 95 % intervals)."
    )
    found = tables.diversity(rows)
    drawn = figures.curves(title, how, found, "hospitals", "hospitals that train", log=False)
    return Section("diversity", title, (drawn,))


def _costs(rows: Sequence[Row]) -> Section:
    found = tables.costs(rows)
    known = {c: label for c, label in tables.COSTS.items() if any(r[c] != "" for r in found.records)}
    how = (
        "Left is cheaper, and each step of the axis is a factor of ten: what the busiest hospital and the coordinator "
        "compute, how long training takes on this machine (a generator is fitted once for all models), what is sent; a "
        "cross is nothing."
    )
    return Section("cost", "Cost", (figures.dots("Cost", how, found, known),))


@dataclass(frozen=True)
class Matrix:
    """Train-site x test-site AUROC of one row; ``worst`` is the lowest of all."""

    name: str
    sites: tuple[str, ...]
    cells: Mapping[str, Mapping[str, float]]
    worst: float
    shade: Mapping[str, Mapping[str, float]]
    """Opacity, 0 to .35: text stays readable on it."""
    link: str


def _matrix(row: Row, found: Table) -> Matrix:
    cells: dict[str, dict[str, float]] = {}
    for record in found.records:
        cells.setdefault(record["trained"], {})[record["tested"]] = record["auroc"]
    values = [value for tested in cells.values() for value in tested.values()]
    low, high = min(values), max(values)
    scale = 0.35 / (high - low) if high > low else 0.0
    return Matrix(
        row.name,
        tuple(sorted({site for tested in cells.values() for site in tested})),
        cells,
        low,
        {a: {b: round((v - low) * scale, 3) for b, v in tested.items()} for a, tested in cells.items()},
        found.link(),
    )


@dataclass(frozen=True)
class Groups:
    """AUROC by level of one attribute: levels, and one record per row with its gap."""

    attribute: str
    levels: tuple[str, ...]
    rows: tuple[tuple[Row, Mapping[str, float], float], ...]
    link: str


def _groups(rows: Sequence[Row]) -> list[Groups]:
    by_row = [(row, row.line.subgroup_auroc()) for row in rows]
    link = tables.subgroups(rows).link()
    return [
        Groups(
            attribute,
            tuple(sorted({level for _, found in by_row for level in found.get(attribute, {})})),
            tuple(
                (row, levels, max(levels.values()) - min(levels.values()))
                for row, found in by_row
                if (levels := found.get(attribute))
            ),
            link,
        )
        for attribute in sorted({attribute for _, found in by_row for attribute in found})
    ]


def _out_of_band(rows: Sequence[Row]) -> list[tuple[Row, str]]:
    found = []
    for row in rows:
        items = sorted({item for result in row.line.results for item in result.exposure.out_of_band})
        found += [(row, item) for item in items]
    return found


def _same(rows: Sequence[Row], dropped: Sequence[str]) -> str:
    """What all rows have in common; a row of fewer hospitals, patients or seeds has not seen the same."""
    of_each = [[result.spec for result in row.line.results] for row in rows]
    seen = {
        frozenset((s.seed, s.sites, s.unseen, s.patients_per_site, s.options.get("rows")) for s in specs)
        for specs in of_each
    }
    if len(seen) == 1 and not dropped:
        return "All were trained and tested on the same patients."
    if len({frozenset(s.seed for s in specs) for specs in of_each}) > 1:
        return "Not all were trained and tested on the same patients: some lack results of seeds that others have."
    if dropped:
        return f"Not all were trained on the same patients: {'; '.join(dict.fromkeys(dropped))}."
    return "Not all were trained on the same patients: the names of the technologies say where they differ."


def _people(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Hospital to how many test patients it has, and how many of them with the outcome, one seed."""
    found: dict[str, str] = {}
    for row in rows:
        for site, figures_ in row.line.results[0].per_site.items():
            patients, positives = figures_.get("patients"), figures_.get("positives")
            if isinstance(patients, float) and isinstance(positives, float):
                found.setdefault(site, f"{patients:.0f} test patients, {positives:.0f} with the outcome")
    return sorted(found.items())


def _decisions(rows: Sequence[Row], columns: Sequence[Column]) -> Table:
    names = ("row", "technology", *(column.name for column in columns))
    return tables.decisions(
        names,
        (
            {"row": row.number, "technology": row.name} | {column.name: column.cells[i].text for column in columns}
            for i, row in enumerate(rows)
        ),
    )


def _differences(name: str, differences: Sequence[Difference], names: Mapping[int, str]) -> Table:
    records = tuple(
        {
            "row": d.row,
            "technology": names[d.row],
            "against_row": d.other,
            "against": names[d.other],
            "difference": d.value,
            "low": d.interval.low,
            "high": d.interval.high,
            "p_holm": d.p,
            "seeds": d.seeds,
            "says": d.state,
        }
        for d in differences
    )
    columns = ("row", "technology", "against_row", "against", "difference", "low", "high", "p_holm", "seeds")
    return Table(name, (*columns, "says"), records)
