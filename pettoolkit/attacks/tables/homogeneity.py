"""Homogeneity: if all who look like a patient share a secret, k-anonymity does not hide it.

Machanavajjhala et al. 2007 (TKDD, "l-diversity: privacy beyond k-anonymity"). The attacker finds the released rows
whose quasi-identifiers allow the patient's (ranges and sets by containment, a suppressed cell allows everything), and
knows the secret if all of them say the same. A guess on a patient whose rows disagree is not made and counts
as a failure.
"""

from __future__ import annotations

import time

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Group, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.statistics import Bools, Floats, Ints
from pettoolkit.attacks.tables.common import (
    FEWEST,
    Table,
    allowed_codes,
    by_secret,
    equal_targets,
    look_alike,
    need_quasi_identifiers,
    need_secrets,
    secret_codes,
    the_table,
    together,
)
from pettoolkit.attacks.tables.released import Classes


@register
class Homogeneity:
    """Knows the quasi-identifiers, and that the patient is in the table."""

    name = "homogeneity"
    sees: type[View] = TableView
    knowledge = "quasi-identifiers"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        table = the_table(view)
        need_quasi_identifiers(table)
        need_secrets(table)
        members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, self.name)
        values = table.place(members), table.place(control)
        left = [possible(table, v) for v in values]
        parts = []
        for number, secret in enumerate(table.secret):
            one = [told(table, v, all_left[number], secret) for v, all_left in zip(values, left, strict=True)]
            hits = hits_of(members, control, one[0], one[1])
            if min(len(hits.hit), len(hits.control_hit)) >= FEWEST:
                parts.append((table.columns[secret].name, hits))
        if not parts:
            raise NotRun(f"no sensitive column is known of {FEWEST} patients")
        return [
            finding(
                self,
                "inference",
                together([hits for _, hits in parts]),
                wanted=effort.attacks * len(table.secret),
                seconds=time.perf_counter() - start,
                details=by_secret(parts),
            )
        ]


def possible(table: Table, values: Floats) -> list[Bools]:
    """For each secret, which of its bins the rows that match each patient allow, shape (n, bins).

    That the secret was measured counts as known: nobody is attacked on a missing one.
    """
    classes = Classes.of(table.only(table.quasi))
    allowed = [_union(classes, allowed_codes(table.spans[secret])[:, :-1]) for secret in table.secret]
    out = [np.zeros((len(values), a.shape[1]), dtype=bool) for a in allowed]
    for patient, group in look_alike(table, values[:, list(table.quasi)], classes):
        starts = np.flatnonzero(np.diff(patient, prepend=-1))
        for found, of_class in zip(out, allowed, strict=True):
            if len(patient):
                found[patient[starts]] = np.logical_or.reduceat(of_class[group], starts)
    return out


def _union(classes: Classes, allowed: Bools) -> Bools:
    """What any row of a class allows, shape (classes, bins)."""
    return classes.histogram(allowed) > 0


def told(table: Table, values: Floats, left: Bools, secret: int) -> Ints:
    """1 where one bin is left and it is the patient's, 0 otherwise, -1 where the patient's secret is missing, (n,)."""
    truth = secret_codes(values[:, secret], table.columns[secret])
    right = (left.sum(axis=1) == 1) & left[np.arange(len(truth)), truth]
    return np.where(truth < 0, -1, right.astype(np.int64))


def hits_of(members: Group, control: Group, mine: Ints, theirs: Ints) -> Hits:
    """Evidence from 1 (guessed), 0 (not) and -1 (not attacked)."""
    return Hits(
        members.patient[mine >= 0], mine[mine >= 0] == 1, control.patient[theirs >= 0], theirs[theirs >= 0] == 1
    )
