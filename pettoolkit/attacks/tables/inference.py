"""Inference through anonymeter: guess what a patient keeps secret from the released row that is most like the patient.

Giomi et al. 2023 (PoPETs). Two attackers: one knows the quasi-identifiers, the other everything but the secret, which
is the strict reading of the GDPR (recital 26: all means reasonably likely to be used).

Guards: a secret number is guessed if its public bin is (1/32 of the public range; anonymeter's relative error counts
every guess on negative numbers as right); secrets are those with many values, as an excess over a common yes or no
can't be decided with thousands of attacks; patients whose secret is missing are not attacked on it; as many control
patients as members. The nearest row is found by :mod:`pettoolkit.attacks.tables.gower`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Group, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.statistics import Bools, Floats, Ints
from pettoolkit.attacks.tables.common import (
    FEWEST,
    Table,
    by_secret,
    equal_targets,
    need_quasi_identifiers,
    need_secrets,
    secret_codes,
    the_table,
    together,
)
from pettoolkit.attacks.tables.gower import nearest

if TYPE_CHECKING:
    import pandas as pd


@register
class InferenceFromQuasiIdentifiers:
    """Knows the quasi-identifiers."""

    name = "inference_quasi_identifiers"
    sees: type[View] = TableView
    knowledge = "quasi-identifiers"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        table = the_table(view)
        need_quasi_identifiers(table)
        return _infer(self, table, people, effort, dict.fromkeys(table.secret, table.quasi))


@register
class Inference:
    """Knows everything but the secret."""

    name = "inference"
    sees: type[View] = TableView
    knowledge = "full"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        table = the_table(view)
        known = {s: tuple(j for j in range(len(table.columns)) if j != s) for s in table.secret}
        return _infer(self, table, people, effort, known)


def _infer(
    attack: Inference | InferenceFromQuasiIdentifiers,
    table: Table,
    people: People,
    effort: Effort,
    known: dict[int, tuple[int, ...]],
) -> list[Finding]:
    start = time.perf_counter()
    need_secrets(table)
    members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, attack.name)
    parts: list[tuple[str, Hits]] = []
    for secret, auxiliary in known.items():
        hits = _guess(table, members, control, secret, auxiliary)
        if min(len(hits.hit), len(hits.control_hit)) >= FEWEST:
            parts.append((table.columns[secret].name, hits))
    if not parts:
        raise NotRun(f"no sensitive column is known of {FEWEST} patients")
    return [
        finding(
            attack,
            "inference",
            together([hits for _, hits in parts]),
            wanted=effort.attacks * len(table.secret),
            seconds=time.perf_counter() - start,
            details=by_secret(parts),
        )
    ]


def _guess(table: Table, members: Group, control: Group, secret: int, auxiliary: Sequence[int]) -> Hits:
    hit = [guessed(table, table.place(group), secret, auxiliary) for group in (members, control)]
    known = [right >= 0 for right in hit]
    return Hits(members.patient[known[0]], hit[0][known[0]] == 1, control.patient[known[1]], hit[1][known[1]] == 1)


def guessed(table: Table, values: Floats, secret: int, auxiliary: Sequence[int]) -> Ints:
    """1 where the nearest released row has the patient's secret, 0 where not, -1 where there is none to guess, (n,)."""
    import anonymeter.evaluators.inference_evaluator as anonymeter

    _, row = nearest(values[:, list(auxiliary)], table.only(auxiliary))
    column = table.columns[secret]
    truth = _text(secret_codes(values[:, secret], column))
    guess = _text(secret_codes(table.spans[secret].middle(), column)[row])
    right: Bools = anonymeter.evaluate_inference_guesses(guess, truth, regression=False)
    return np.where(truth.to_numpy() == "missing", -1, right.astype(np.int64))


def _text(codes: Ints) -> pd.Series[str]:
    """Bins as text, which anonymeter compares without a relative error."""
    import pandas as pd

    return pd.Series(np.where(codes < 0, "missing", codes.astype(str)))
