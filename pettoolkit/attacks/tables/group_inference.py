"""Group inference: the best guess of each sensitive column for everybody with the same quasi-identifiers.

The attacker takes the most frequent secret of the rows that look alike (numbers among the quasi-identifiers in eighths
of their public range, ranges by containment). What is so learned from a *group* holds for patients who never were in
the table as well: those are the control, and only what goes beyond them is exposure. Beside it, by size of the
group, stands what the attacker's own rows, who were not used, would have let guess (``holdout/..``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Hits, NotRun, People, TableView, View, finding, register
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
from pettoolkit.attacks.tables.homogeneity import hits_of
from pettoolkit.attacks.tables.released import Classes, binned, read_spans

BINS = 8
"""Parts of the public range of a quasi-identifier that make a group."""

SIZES: Mapping[str, tuple[int, float]] = {"1": (1, 1), "2-4": (2, 4), "5-10": (5, 10), "11+": (11, np.inf)}
"""Sizes of groups by which success is told apart; 11 is EMA's smallest."""


@register
class GroupInference:
    """Knows the quasi-identifiers."""

    name = "group_inference"
    sees: type[View] = TableView
    knowledge = "quasi-identifiers"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        table = the_table(view)
        need_quasi_identifiers(table)
        need_secrets(table)
        members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, self.name)
        holdout = Table(table.columns, read_spans(people.attacker.rows, table.columns), table.quasi, table.secret)
        size, mine = guesses(table, table.place(members))
        other_size, theirs = guesses(table, table.place(control))
        _, elsewhere = guesses(holdout, table.place(members))
        parts: list[tuple[str, Hits]] = []
        by_size: list[tuple[Ints, Ints, Ints, Ints, Ints]] = []
        for number, secret in enumerate(table.secret):
            truth = secret_codes(table.place(members)[:, secret], table.columns[secret])
            other = secret_codes(table.place(control)[:, secret], table.columns[secret])
            right, fooled = _right(mine[number], truth), _right(theirs[number], other)
            hits = hits_of(members, control, right, fooled)
            if min(len(hits.hit), len(hits.control_hit)) >= FEWEST:
                parts.append((table.columns[secret].name, hits))
                by_size.append((size, right, _right(elsewhere[number], truth), other_size, fooled))
        if not parts:
            raise NotRun(f"no sensitive column is known of {FEWEST} patients")
        return [
            finding(
                self,
                "inference",
                together([hits for _, hits in parts]),
                wanted=effort.attacks * len(table.secret),
                seconds=time.perf_counter() - start,
                details=by_secret(parts) | _sizes(by_size),
            )
        ]


def guesses(table: Table, values: Floats) -> tuple[Ints, list[Ints]]:
    """Best guess for each patient.

    Returns
    -------
    size, codes
        Released rows that look like each patient, shape (n,), and by secret the most frequent bin among them, shape
        (n,): -1 if that is "missing". Where no row looks like a patient, the most frequent of all is guessed.
    """
    quasi = list(table.quasi)
    placed, spans = values[:, quasi], table.only(quasi)
    if not table.midpoints:
        placed, spans = binned(placed, spans, BINS)
    classes = Classes.of(spans)
    counts = [classes.histogram(allowed_codes(table.spans[secret])) for secret in table.secret]
    size = np.zeros(len(values), dtype=np.int64)
    best = [np.full(len(values), _mode(c.sum(axis=0)[None])[0]) for c in counts]
    for patient, group in look_alike(table, placed, classes):
        if not len(patient):
            continue
        starts = np.flatnonzero(np.diff(patient, prepend=-1))
        who = patient[starts]
        size[who] = np.add.reduceat(classes.size[group], starts)
        for found, count in zip(best, counts, strict=True):
            found[who] = _mode(np.add.reduceat(count[group], starts))
    return size, best


def _mode(counts: Floats) -> Ints:
    """Most frequent bin of each row of counts; a known one wherever there is any, since that is what is asked."""
    known = counts[:, :-1]
    return np.where(known.any(axis=1), known.argmax(axis=1), -1).astype(np.int64)


def _right(guess: Ints, truth: Ints) -> Ints:
    return np.where(truth < 0, -1, (guess == truth).astype(np.int64))


def _sizes(parts: list[tuple[Ints, Ints, Ints, Ints, Ints]]) -> dict[str, float]:
    """Success on members, the holdout's success on them, and success on control patients, by size of the group."""
    size, mine, holdout, other_size, theirs = (np.concatenate(p) for p in zip(*parts, strict=True))
    out: dict[str, float] = {}
    for name, (low, high) in SIZES.items():
        for label, sizes, right in (("group", size, mine), ("holdout", size, holdout), ("outside", other_size, theirs)):
            chosen: Bools = (sizes >= low) & (sizes <= high) & (right >= 0)
            if chosen.sum() >= FEWEST:
                out[f"{label}/{name}"] = float(right[chosen].mean())
    return out
