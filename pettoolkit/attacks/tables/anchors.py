"""Floor and ceiling beside a measured release: what the same attacks reach on tables whose risk is known.

The floor is the *null row*: fresh real patients, none of them attacked, pose as the release. Ceilings are the real
table itself, and its k-anonymised forms, the honest competitors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pettoolkit.attacks.protocol import People, TableView
from pettoolkit.errors import BadInput, Refused
from pettoolkit.models.seeding import derived_seed
from pettoolkit.synthesis.anonymise import Scope, anonymise

NULL, REAL = "fresh patients", "real table"
KS = (10, 5, 3)
"""Sizes of groups of the anonymised tables that stand beside a release; smaller ones protect less."""


@dataclass(frozen=True)
class Anchor:
    """A table of known risk: what is attacked, and whom."""

    name: str
    view: TableView
    people: People


def null_row(view: TableView, people: People, seed: int) -> Anchor:
    """Half of the attacker's rows pose as the release, the other half stays with the attacker."""
    order = np.random.default_rng(derived_seed(seed, "null row")).permutation(len(people.attacker))
    half = len(order) // 2
    posing = people.attacker.take(np.sort(order[:half]))
    left = people.attacker.take(np.sort(order[half:]))
    shown = replace(view, releases={NULL: posing.rows[_columns(view)]}, source="null")
    return Anchor(NULL, shown, replace(people, attacker=left))


def real_table(view: TableView, people: People) -> Anchor:
    """The members' own rows, released as they are."""
    return Anchor(REAL, replace(view, releases={REAL: people.members.rows[_columns(view)]}, source="raw"), people)


def anonymised(view: TableView, people: People, k: int, scope: Scope = "quasi_identifiers") -> Anchor:
    """The members' rows generalised until each looks like k - 1 others.

    Raises
    ------
    BadInput, Refused
        If there is no quasi-identifier, or there are fewer than k members.
    """
    kept = _columns(view)
    outcome = view.contract.outcome.name
    columns = tuple(c for c in view.contract.columns if c.name in kept or c.name == outcome)
    made = anonymise(people.members.rows, view.contract.model_copy(update={"columns": columns}), k=k, scope=scope)
    name = f"k = {k}"
    return Anchor(name, replace(view, releases={name: made.generalised[kept]}, source="anonymised"), people)


def anchors(view: TableView, people: People, seed: int, ks: Sequence[int] = KS) -> Iterator[Anchor | tuple[str, str]]:
    """Floor first, then the ceilings from low to high; ``(name, why)`` for one that can't be made."""
    yield null_row(view, people, seed)
    for k in ks:
        try:
            yield anonymised(view, people, k)
        except (BadInput, Refused) as error:
            yield f"k = {k}", str(error)
    yield real_table(view, people)


def _columns(view: TableView) -> list[str]:
    """Columns of the contract that are in the release."""
    known = [c.name for c in (*view.contract.feature_columns, view.contract.outcome)]
    shown = next(iter(view.releases.values()))
    return [name for name in known if name in shown.columns]
