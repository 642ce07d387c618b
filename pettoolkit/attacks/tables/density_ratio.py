"""Density-ratio membership: whether the release is denser at a patient's record than other patients are there.

DOMIAS (van Breugel et al. 2023, AISTATS, "Membership inference attacks against synthetic data through overfitting
detection"): the attacker holds rows of the same population that were not used, and compares the density of the
release at a record with theirs. Both densities are those of the nearest neighbour (Loftsgaarden and Quesenberry
1965, Ann. Math. Statist. 36:1049): the ratio of densities is a power of the ratio of the two distances, so
patients are ranked by ``log(distance to the reference) - log(distance to the release)``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from pettoolkit.attacks.protocol import Effort, Finding, Hits, NotRun, People, TableView, View, finding, register
from pettoolkit.attacks.statistics import Floats
from pettoolkit.attacks.tables.common import FEWEST, Table, equal_targets, the_table
from pettoolkit.attacks.tables.gower import nearest
from pettoolkit.attacks.tables.released import Span, read_spans

FALSE_ALARMS = 0.10
"""Share of the attacker's own rows (certainly not used) that the threshold lets through."""

_LEAST = 1e-4
"""Distances below this are equal: a ten-thousandth of one column's range."""


@register
class DensityRatio:
    """Knows a patient's whole record and similar patients, and says "was used" where the release is unusually dense."""

    name = "density_ratio"
    sees: type[View] = TableView
    knowledge = "full"

    def run(self, view: TableView, people: People, effort: Effort) -> list[Finding]:
        """See :class:`pettoolkit.attacks.protocol.Attack`."""
        start = time.perf_counter()
        table = the_table(view)
        if len(people.attacker) < 2 * FEWEST:
            raise NotRun(f"{len(people.attacker)} reference rows are too few for a density (at least {2 * FEWEST})")
        members, control = equal_targets(people.members, people.control, effort.attacks, effort.seed, self.name)
        reference = read_spans(people.attacker.rows, table.columns)
        own = _score(table, reference, table.place(people.attacker), others=True)
        threshold = float(np.quantile(own, 1 - FALSE_ALARMS))
        scores = [_score(table, reference, table.place(group)) for group in (members, control)]
        hits = Hits(members.patient, scores[0] > threshold, control.patient, scores[1] > threshold)
        return [
            finding(
                self,
                "membership",
                hits,
                wanted=effort.attacks,
                seconds=time.perf_counter() - start,
                details={"auc": auc(scores[0], scores[1]), "tpr_at_1pct_fpr": tpr_at(scores[0], scores[1], 0.01)},
            )
        ]


def _score(table: Table, reference: Sequence[Span], values: Floats, *, others: bool = False) -> Floats:
    """Log of the ratio of distances, shape (n,); ``others``: the patients are the reference themselves."""
    elsewhere, here = nearest(values, reference, others=others)[0], nearest(values, table.spans)[0]
    return np.asarray(np.log(np.maximum(elsewhere, _LEAST)) - np.log(np.maximum(here, _LEAST)))


def auc(members: Floats, control: Floats) -> float:
    """Chance that a member scores above a control patient, ties counting half (Mann and Whitney 1947)."""
    order = np.sort(control)
    below, upto = np.searchsorted(order, members, "left"), np.searchsorted(order, members, "right")
    return float((below + upto).mean() / (2 * len(control)))


def tpr_at(members: Floats, control: Floats, false_alarms: float) -> float:
    """Share of members above the threshold that lets at most this share of control patients through."""
    let_through = int(np.floor(false_alarms * len(control)))
    threshold = np.sort(control)[::-1][let_through]
    return float((members > threshold).mean())
