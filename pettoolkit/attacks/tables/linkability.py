"""Linkability through anonymeter: whether two halves of a record point to the same released row.

Giomi et al. 2023 (PoPETs): the attacker holds two tables without a common key, each with half of the columns, and
uses the release to say which rows belong to one person: both halves have the same nearest released row.

The neighbours are ours (:mod:`pettoolkit.attacks.tables.gower`), which know ranges, sets of levels and missing values;
on plain tables without missing values they are anonymeter's (tested), at a seventh of the time
(benchmarks/attacks_tables.py).
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.statistics import Bools, Floats
from pettoolkit.attacks.tables.common import Table, equal_targets, the_table
from pettoolkit.attacks.tables.gower import nearest


@register
class Linkability:
    """Knows all of a patient's record, in two halves that it can't put together otherwise."""

    name = "linkability"
    sees: type[View] = TableView
    knowledge = "full"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        table = the_table(view)
        if len(table.columns) < 2:
            raise NotRun("two halves of a record need two columns")
        members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, self.name)
        hits = Hits(
            members.patient,
            linked(table, table.place(members), *halves(table)),
            control.patient,
            linked(table, table.place(control), *halves(table)),
        )
        return [
            finding(self, "linkability", hits, wanted=effort.attacks, seconds=time.perf_counter() - start),
        ]


def halves(table: Table) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Columns by turns, so that each half has some of every kind that stands together in the contract."""
    return tuple(range(0, len(table.columns), 2)), tuple(range(1, len(table.columns), 2))


def linked(table: Table, values: Floats, first: Sequence[int], second: Sequence[int]) -> Bools:
    """Whether both halves of each patient have the same nearest released row, shape (n,)."""
    from anonymeter.evaluators.linkability_evaluator import LinkabilityIndexes

    found = [nearest(values[:, list(half)], table.only(half))[1][:, None] for half in (first, second)]
    links = LinkabilityIndexes(*found).find_links(n_neighbors=1)
    return np.isin(np.arange(len(values)), list(links))
