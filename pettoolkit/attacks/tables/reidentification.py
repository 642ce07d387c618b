"""Re-identification probability: one in so many who look alike in the quasi-identifiers.

The "prosecutor" risk of El Emam and Dankar 2008 (JAMIA 15:627): who knows that a patient is in the table, and the
patient's quasi-identifiers, picks one of the rows that look alike and is right with probability 1 / (their number).
EMA's 0.09 (Policy 0070: groups of at least 11) is a threshold of the largest of these, and of no other figure here. It
says nothing about what is learned from the whole group (homogeneity), or by who knows more than the
quasi-identifiers.
"""

from __future__ import annotations

import time

import numpy as np

from pettoolkit.attacks.protocol import (
    Effort,
    Exact,
    Finding,
    NotApplicable,
    People,
    TableView,
    View,
    finding,
    register,
)
from pettoolkit.attacks.statistics import Ints
from pettoolkit.attacks.tables.common import need_quasi_identifiers, the_table
from pettoolkit.attacks.tables.released import Classes, Span

UNLIKE_PATIENTS = ("synthetic", "null")
"""Sources of tables in which no row is a patient's own record."""


@register
class Reidentification:
    """Knows the quasi-identifiers, and that the patient is in the table."""

    name = "reidentification"
    sees: type[View] = TableView
    knowledge = "quasi-identifiers"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        if view.source in UNLIKE_PATIENTS:
            raise NotApplicable("no row of the table is a patient's own record, which groups of alike rows could hide")
        table = the_table(view)
        need_quasi_identifiers(table)
        spans = table.only(table.quasi)
        size = class_sizes(spans)
        gone = np.logical_and.reduce([s.suppressed for s in spans])
        shown = size[~gone] if not gone.all() else size
        probability = 1 / shown
        suppressed = int(gone.sum()) + max(0, len(people.members) - len(table))
        return [
            finding(
                self,
                "reidentification_probability",
                Exact(float(probability.max()), patients=len(shown), achieved=len(shown)),
                wanted=len(table),
                seconds=time.perf_counter() - start,
                details={
                    "maximum": float(probability.max()),
                    "mean": float(probability.mean()),
                    "smallest_group": float(shown.min()),
                    "groups": float(round(probability.sum())),
                    "suppressed": float(suppressed),
                },
                note=f"{suppressed} patients suppressed" if suppressed else "",
            )
        ]


def class_sizes(spans: tuple[Span, ...]) -> Ints:
    """Rows that look like each row, itself included, shape (m,)."""
    classes = Classes.of(spans)
    return classes.size[classes.of_row]
