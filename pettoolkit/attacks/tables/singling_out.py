"""Singling out through anonymeter: predicates made from the release that fit exactly one of the real patients.

Giomi et al. 2023 (PoPETs, "A unified framework for quantifying privacy risk in synthetic data"); the notion is
that of the Article 29 Working Party (WP 216) as Cohen and Nissim 2020 (PNAS 117:8344) made it precise. Univariate
predicates are rare values of one column, multivariate ones combine the values of a released row in three columns.

Guards: members and control patients are tables of one size; a figure counts predicates that were found, not those that
were wanted; all predicates that fit one released row count together as one attack; a missing value is missing, never a
number.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Group, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.statistics import LEVEL, Floats, Ints
from pettoolkit.attacks.tables.common import FEWEST, Table, targets, the_table
from pettoolkit.attacks.tables.released import matched
from pettoolkit.models.seeding import derived_seed
from pettoolkit.records import Interval

if TYPE_CHECKING:
    import polars as pl

COLUMNS = 3
"""Columns of a multivariate predicate (anonymeter's default)."""

ATTEMPTS = 20
"""Predicates that are tried for each that is wanted."""

POSING = 0.05
"""Share of the attacker's rows in the release above which they are taken to be the release."""

DIGITS = 6
"""Decimals of the public scale: what a file rounds must not look like another value."""

LEAST_REACH = 0.1
"""Distance between control success and the best possible below which nothing can be said."""


@dataclass(frozen=True)
class Reached:
    """Singling out among a part of the members: a perfect attack succeeds in ``reach`` of the cases, not in all.

    ``reach`` is the share of the members in the table that is as large as the control table: a predicate that singles
    out a member hits one of this part with that probability. The excess is (attack - control) / (reach - control).
    """

    hits: Hits
    reach: float

    @property
    def success(self) -> float:
        """What the attack would reach on all members: as far above the control as its share of the way allows.

        It is a rate, and chance can't push it below 0.
        """
        control = self.hits.control
        return max(0.0, control + (1 - control) * self._of(max(-1.0, self.hits.success - control)))

    @property
    def control(self) -> float:
        """Share of predicates that fit exactly one control patient."""
        return self.hits.control

    @property
    def patients(self) -> int:
        """Distinct released rows that a predicate was made of."""
        return self.hits.patients

    @property
    def achieved(self) -> int:
        """Predicates found."""
        return self.hits.achieved

    def interval(self, level: float = LEVEL) -> Interval:
        """Interval of the excess; (-1, 1) where too few of the members are in the table."""
        if self._room < LEAST_REACH:
            return Interval(-1.0, 1.0)
        whole = self.hits.interval(level)
        left = 1 - self.hits.control
        return Interval(self._of(whole.low * left), self._of(whole.high * left))

    def half(self, number: int) -> Reached:
        """The same over half of the released rows."""
        return Reached(self.hits.half(number), self.reach)

    @property
    def _room(self) -> float:
        return self.reach - self.hits.control

    def _of(self, difference: float) -> float:
        return min(1.0, max(-1.0, difference / self._room)) if self._room >= LEAST_REACH else 0.0


class _SinglingOut:
    """Knows nothing but the release."""

    name: str
    mode: str
    sees: type[View] = TableView
    knowledge = "none"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        table = the_table(view)
        fresh = _fresh(table, people)
        size = min(len(people.members), len(fresh))
        members = targets(people.members, size, effort.seed, f"{self.name} members")
        control = targets(fresh, len(members), effort.seed, f"{self.name} control")
        members = members if len(members) == len(control) else members.take(np.arange(len(control)))
        released = frame_of(np.column_stack([s.middle() for s in table.spans]), table)
        found = predicates(released, self.mode, effort.attacks, derived_seed(effort.seed, self.name))
        if len(found) < FEWEST:
            raise NotRun(f"{len(found)} predicates single out a released row, too few to measure (at least {FEWEST})")
        row = singled_out(released, found)
        hit = singled_out(frame_of(table.place(members), table), found) >= 0
        fooled = singled_out(frame_of(table.place(control), table), found) >= 0
        reach = len(members) / len(people.members)
        hits = Hits(row, hit, row, fooled)
        made = finding(
            self,
            "singling_out",
            hits if reach == 1 else Reached(hits, reach),
            wanted=effort.attacks,
            seconds=time.perf_counter() - start,
            details={"reach": reach, "success_among_them": hits.success},
            note="" if reach == 1 else f"tried on {len(members)} members, as many as there are control patients",
        )
        return [made]


@register
class SinglingOutUnivariate(_SinglingOut):
    """Rare values of one column."""

    name = "singling_out_univariate"
    mode = "univariate"


@register
class SinglingOutMultivariate(_SinglingOut):
    """A released row's values in three columns."""

    name = "singling_out_multivariate"
    mode = "multivariate"


def _fresh(table: Table, people: People) -> Group:
    """Control patients, and the attacker's own: their number sets how far the attack can see.

    Where the attacker's rows pose as the release, they can't be control patients as well.
    """
    if not len(people.attacker):
        return people.control
    posing = all(s.plain for s in table.spans) and matched(table.place(people.attacker), table.spans).mean() > POSING
    return people.control if posing else _joined(people.control, people.attacker)


def _joined(first: Group, second: Group) -> Group:
    import pandas as pd

    rows = pd.concat([first.rows, second.rows], ignore_index=True)
    return Group(rows, np.concatenate([first.patient, second.patient]), np.concatenate([first.site, second.site]))


def frame_of(values: Floats, table: Table) -> pl.DataFrame:
    """Values on the public scale as anonymeter's singling out takes them: null where missing, a category as text.

    As in anonymeter, rows that are alike count once.
    """
    import polars as pl

    made: dict[str, Any] = {}
    values = np.round(values, DIGITS)
    for j, column in enumerate(table.columns):
        absent = np.isnan(values[:, j])
        if column.kind == "category":
            made[f"c{j}"] = [None if a else f"level {v:.0f}" for v, a in zip(values[:, j], absent, strict=True)]
        else:
            made[f"c{j}"] = [None if a else v for v, a in zip(values[:, j].tolist(), absent, strict=True)]
    text = {f"c{j}" for j, c in enumerate(table.columns) if c.kind == "category"}
    schema = {name: pl.String if name in text else pl.Float64 for name in made}
    return pl.DataFrame(made, schema=schema).unique(maintain_order=True)


def predicates(released: pl.DataFrame, mode: str, wanted: int, seed: int) -> list[pl.Expr]:
    """Predicates of anonymeter that fit exactly one released row."""
    import warnings

    from anonymeter.evaluators import singling_out_evaluator as anonymeter

    rng = np.random.default_rng(seed)
    logging.getLogger(anonymeter.__name__).setLevel(logging.ERROR)  # fewer than wanted: the figure says so
    if mode == "univariate":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Comparisons with None")  # a missing value alone: fits nobody
            order: Any = _Sorted(rng)
            found = anonymeter.univariate_singling_out_queries(released, wanted, order)
    else:
        found = anonymeter.multivariate_singling_out_queries(
            released, wanted, min(COLUMNS, released.width), ATTEMPTS * wanted, rng
        )
    return list(found)


class _Sorted:
    """A generator whose shuffle does not depend on the order before: polars groups values in a new order each time."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def shuffle(self, queries: list[pl.Expr]) -> None:
        """Sort by the predicate's text, then shuffle."""
        queries.sort(key=str)
        self._rng.shuffle(queries)  # type: ignore[arg-type]  # it takes lists of anything


def singled_out(frame: pl.DataFrame, queries: Sequence[pl.Expr]) -> Ints:
    """Which row each predicate fits if it fits exactly one, else -1, shape (predicates,)."""
    import polars as pl

    counts = frame.select([q.cast(pl.Int64).sum().alias(f"q{i}") for i, q in enumerate(queries)]).row(0)
    rows = frame.select([q.fill_null(False).arg_max().alias(f"q{i}") for i, q in enumerate(queries)]).row(0)
    return np.array([row if count == 1 else -1 for row, count in zip(rows, counts, strict=True)], dtype=np.int64)
