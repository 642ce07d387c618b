"""Exact and near matches: whether some released row is the patient's record.

Near is defined by public bounds alone: every number within 2 % of its public range, every level and every missing
value the same. Whatever a generator makes of common patients is near somebody, so the floor is how often it
happens to control patients.
"""

from __future__ import annotations

import time

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.tables.common import equal_targets, the_table
from pettoolkit.attacks.tables.released import matched

NEAR = 0.02
"""Share of a number's public range (on the contract's scale) within which two values are near."""


@register
class ExactMatch:
    """Knows a patient's whole record, and says "was used" if some released row allows it."""

    name = "exact_match"
    sees: type[View] = TableView
    knowledge = "full"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        return _matching(self, view, people, effort, 0.0)


@register
class NearMatch:
    """As :class:`ExactMatch`, with numbers up to 2 % of the public range off."""

    name = "near_match"
    sees: type[View] = TableView
    knowledge = "full"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        return _matching(self, view, people, effort, NEAR)


def _matching(
    attack: ExactMatch | NearMatch, view: TableView, people: People, effort: Effort, tolerance: float
) -> list[Finding]:
    start = time.perf_counter()
    table = the_table(view)
    members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, attack.name)
    compared = [j for j in range(len(table.columns)) if not (table.midpoints and j in table.quasi)]
    if not compared:
        raise NotRun("all columns are middles of ranges, which are nobody's values")
    # the column with most different values first: the fewest pairs are left for the others
    order = sorted(compared, key=lambda j: -len(np.unique(table.spans[j].middle())))
    spans = table.only(order)
    hits = Hits(
        members.patient,
        matched(table.place(members)[:, order], spans, tolerance),
        control.patient,
        matched(table.place(control)[:, order], spans, tolerance),
    )
    seconds = time.perf_counter() - start
    return [finding(attack, "membership", hits, wanted=effort.attacks, seconds=seconds)]
