"""What the attacks on tables share: the columns they look at, whom they attack, and secrets in public bins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from pettoolkit.attacks.protocol import Group, Hits, NotRun, TableView
from pettoolkit.attacks.statistics import Bools, Floats, Ints
from pettoolkit.attacks.tables.gower import nearest
from pettoolkit.attacks.tables.released import Classes, Span, matches, place, read_spans
from pettoolkit.cohort.contract import Column
from pettoolkit.models.seeding import derived_seed
from pettoolkit.synthesis.cells import Cells

SECRET_BINS = 32
"""A secret number counts as guessed within its bin: 1/32 of the public range, about the 5 % relative error that
anonymeter allows on a range of log(150)."""

FEWEST = 10
"""Patients below which nothing is attacked."""


@dataclass(frozen=True)
class Table:
    """One released table, read: its columns, what its cells allow, and which columns are what.

    ``midpoints``: an anonymised table whose ranges were handed over as their middles, the form that models take.
    """

    columns: tuple[Column, ...]
    spans: tuple[Span, ...]
    quasi: tuple[int, ...]
    secret: tuple[int, ...]
    midpoints: bool = False

    def __len__(self) -> int:
        return len(self.spans[0])

    def place(self, group: Group) -> Floats:
        """Real rows on the public scale, shape (n, columns)."""
        return place(group.rows, self.columns)

    def only(self, index: Sequence[int]) -> tuple[Span, ...]:
        """The spans of some columns."""
        return tuple(self.spans[j] for j in index)


def the_table(view: TableView) -> Table:
    """Read the one release of a view.

    Raises
    ------
    NotRun
        If there are several (each is attacked alone, and all of them by the intersection), or it has no rows.
    """
    tables = tables_of(view)
    if len(tables) != 1:
        raise NotRun(f"takes one table, and this view has {len(tables)}")
    return tables[0]


def tables_of(view: TableView) -> tuple[Table, ...]:
    """Read all releases of a view.

    Raises
    ------
    NotRun
        If a release has no rows, or none of the contract's columns.
    """
    known = (*view.contract.feature_columns, view.contract.outcome)
    secrets = view.sensitive or tuple(c.name for c in known if c.sensitive) or (view.contract.outcome.name,)
    quasi = view.quasi_identifiers or tuple(c.name for c in known if c.quasi_identifier)
    out = []
    for name, frame in view.releases.items():
        columns = tuple(c for c in known if c.name in frame.columns)
        if not len(frame) or not columns:
            raise NotRun(f"release {name} has no " + ("columns of the contract" if len(frame) else "rows"))
        spans = read_spans(frame, columns)
        mine = tuple(j for j, c in enumerate(columns) if c.name in quasi)
        numbers = [spans[j] for j in mine if columns[j].kind == "number"]
        out.append(
            Table(
                columns,
                spans,
                mine,
                tuple(j for j, c in enumerate(columns) if c.name in secrets and c.name not in quasi),
                midpoints=view.source == "anonymised" and bool(numbers) and all(s.plain for s in numbers),
            )
        )
    return tuple(out)


def need_quasi_identifiers(table: Table) -> None:
    """Refuse a table without quasi-identifiers."""
    if not table.quasi:
        raise NotRun("no quasi-identifier in the table (mark columns of the contract with quasi_identifier: true)")


def need_secrets(table: Table) -> None:
    """Refuse a table without a sensitive column."""
    if not table.secret:
        raise NotRun("no sensitive column in the table (mark columns of the contract with sensitive: true)")


def look_alike(table: Table, values: Floats, classes: Classes) -> Iterator[tuple[Ints, Ints]]:
    """Find the classes of released rows that look like each patient.

    Those whose cells allow the patient's values; where ranges were handed over as their middles, the nearest one.

    Parameters
    ----------
    values
        Quasi-identifiers of patients, shape (n, quasi-identifiers).

    Yields
    ------
    patient, number
        Index of patient and class, in blocks of patients in ascending order.
    """
    if table.midpoints:
        yield np.arange(len(values)), nearest(values, classes.spans)[1]
    else:
        yield from matches(values, classes.spans)


def targets(group: Group, wanted: int, seed: int, label: str) -> Group:
    """At most so many distinct patients, drawn by the seed; of a patient with several rows one is drawn.

    Raises
    ------
    NotRun
        If there are fewer than :data:`FEWEST` patients.
    """
    rng = np.random.default_rng(derived_seed(seed, "targets", label))
    order = rng.permutation(len(group))
    _, first = np.unique(group.patient[order], return_index=True)
    chosen = order[np.sort(first)][:wanted]
    if len(chosen) < FEWEST:
        raise NotRun(f"{len(chosen)} patients are too few to attack (at least {FEWEST})")
    return group.take(np.sort(chosen))


def equal_targets(members: Group, control: Group, wanted: int, seed: int, label: str) -> tuple[Group, Group]:
    """As many members as control patients, at most ``wanted`` of each."""
    kept = targets(control, wanted, seed, f"{label} control")
    mine = targets(members, len(kept), seed, label)
    return mine, kept if len(kept) == len(mine) else targets(control, len(mine), seed, f"{label} control")


def secret_codes(values: Floats, column: Column) -> Ints:
    """Public bin (or level) of a column's values, -1 where missing; ``values`` as from ``place``, shape (n,)."""
    known = ~np.isnan(values)
    out = np.full(len(values), -1, dtype=np.int64)
    if column.kind == "number":
        bins = Cells.of(column, SECRET_BINS).bins
        out[known] = np.minimum((values[known] * bins).astype(np.int64), bins - 1)
    else:
        out[known] = values[known].astype(np.int64)
    return out


def allowed_codes(span: Span) -> Bools:
    """Which bins (or levels) each released cell allows, and in the last column whether "missing", (m, bins + 1)."""
    if span.column.kind != "number":
        return np.column_stack([span.levels, span.missing])
    low, high = secret_codes(span.low, span.column), secret_codes(span.high, span.column)
    bins = np.arange(Cells.of(span.column, SECRET_BINS).bins)
    inside = (bins >= low[:, None]) & (bins <= high[:, None]) & (low >= 0)[:, None]
    return np.column_stack([inside, span.missing])


def together(parts: Sequence[Hits]) -> Hits:
    """All attacks of several kinds on the same patients as one evidence: a patient still counts once."""
    return Hits(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("patient", "hit")),
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("control_patient", "control_hit")),
    )


def by_secret(parts: Sequence[tuple[str, Hits]]) -> dict[str, float]:
    """Success on members and on control patients by secret, for a figure's details."""
    out: dict[str, float] = {}
    for name, hits in parts:
        out[f"success/{name}"], out[f"control/{name}"] = hits.success, hits.control
    return out
