"""Two releases of the same patients: what both allow may be one thing, though each alone hides it.

Ganta, Kasiviswanathan and Smith 2008 (KDD, "Composition attacks and auxiliary information in data privacy"): the
attacker finds the rows that look like the patient in each release and keeps the secrets that all releases allow.
One is left: that is the guess.
"""

from __future__ import annotations

import time

import numpy as np

from pettoolkit.attacks.protocol import (
    Effort,
    Finding,
    NotApplicable,
    NotRun,
    People,
    TableView,
    View,
    finding,
    register,
)
from pettoolkit.attacks.statistics import Bools, Floats
from pettoolkit.attacks.tables.common import (
    FEWEST,
    Table,
    by_secret,
    equal_targets,
    need_quasi_identifiers,
    need_secrets,
    tables_of,
    together,
)
from pettoolkit.attacks.tables.homogeneity import hits_of, possible, told


@register
class Intersection:
    """Knows the quasi-identifiers, and that the patient is in all releases."""

    name = "intersection"
    sees: type[View] = TableView
    knowledge = "quasi-identifiers"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        tables = tables_of(view)
        if len(tables) < 2:
            raise NotApplicable("there is one release")
        for table in tables:
            need_quasi_identifiers(table)
            need_secrets(table)
        members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, self.name)
        mine = [_left(table, table.place(members)) for table in tables]
        theirs = [_left(table, table.place(control)) for table in tables]
        parts = []
        for name in [n for n in mine[0] if all(n in left for left in mine)]:
            table = tables[0]
            secret = next(j for j in table.secret if table.columns[j].name == name)
            pair = [
                told(table, table.place(group), np.logical_and.reduce([left[name] for left in found]), secret)
                for group, found in ((members, mine), (control, theirs))
            ]
            hits = hits_of(members, control, pair[0], pair[1])
            if min(len(hits.hit), len(hits.control_hit)) >= FEWEST:
                parts.append((name, hits))
        if not parts:
            raise NotRun(f"no sensitive column is in all releases and known of {FEWEST} patients")
        return [
            finding(
                self,
                "inference",
                together([hits for _, hits in parts]),
                wanted=effort.attacks * len(parts),
                seconds=time.perf_counter() - start,
                details=by_secret(parts),
                note=f"{len(tables)} releases together",
            )
        ]


def _left(table: Table, values: Floats) -> dict[str, Bools]:
    """What one release allows, by secret; a release in which nobody looks like a patient rules nothing out."""
    left = possible(table, values)
    return {
        table.columns[s].name: allowed | ~allowed.any(axis=1, keepdims=True)
        for s, allowed in zip(table.secret, left, strict=True)
    }
