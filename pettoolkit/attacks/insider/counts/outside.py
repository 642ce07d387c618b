"""Outside: the sums of counts of ``scope: secure_sum`` as a hospital with the key decrypted them, less its own part.

The judge holds the generator's conversation again, with the hospitals' code, order and noise; that it ends in the
released rows is checked. A patient adds 1 to one number of each table that was counted, or to none (of another class).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.arms.released import rows_released
from pettoolkit.arms.synthetic.summed import PURPOSE, drawn_from, on_grid, plan_of, sd_here, whole
from pettoolkit.attacks.insider.hospitals import bound_of_sums
from pettoolkit.attacks.insider.views import HOSPITAL, SumsView
from pettoolkit.attacks.protocol import NotRun, People, View
from pettoolkit.cohort.contract import Contract
from pettoolkit.privacy.events import Mechanism
from pettoolkit.privacy.noise import Draw, SeededNoise
from pettoolkit.records import Outcome, RunSpec, from_json
from pettoolkit.synthesis.cells import Cells, cells_of
from pettoolkit.synthesis.conversation import Fitted, Stage, conversation
from pettoolkit.synthesis.marginals import codes_of
from pettoolkit.synthesis.noisy import DP_BINS
from pettoolkit.synthesis.rows import Floats, Ints, class_values, classes

ROUNDED = 1 / 12
"""Variance of what rounding a noisy sum to whole counts leaves out."""


@dataclass(frozen=True)
class ObservedCounts:
    """Noisy counts of one stage, summed over the patients of ``sites``; see :class:`~.views.SeenSum`."""

    sites: tuple[str, ...]
    observed: Floats
    noise: Floats | float
    cells: tuple[Cells, ...]
    stage: Stage

    def of(self, rows: pd.DataFrame, contract: Contract, site: str, kept: npt.NDArray[np.intp]) -> Floats:
        """See :meth:`~.views.SeenSum.of`."""
        codes, label = codes_of(self.cells, rows), classes(rows, contract)
        column = np.full(len(self.observed) + 1, -1)  # the last, which -1 finds, is for patients who are not counted
        column[kept] = np.arange(len(kept))
        out, start = np.zeros((len(rows), len(kept))), 0
        for question in self.stage:
            for places in question.where(codes, label).T:
                found = column[np.where(places < 0, -1, start + places)]
                here = np.flatnonzero(found >= 0)
                out[here, found[here]] = 1.0
            start += question.size
        return out


def counts_views(spec: RunSpec, contract: Contract, outcome_: Outcome, people: People) -> list[View]:
    """What the largest hospital decrypted, stage by stage: what is left is of the fewest patients.

    Raises
    ------
    NotRun
        If the conversation could not be held again.
    """
    own, sums, fitted = counted(spec, contract, people)
    _check(contract, outcome_, drawn_from(spec, contract, fitted, len(people.members)).rows)
    mechanism = None
    if outcome_.privacy.ledgers:
        mechanism = from_json(Mechanism, next(iter(outcome_.privacy.ledgers.values()))["mechanisms"][0])
    taken = "its own counts" if spec.dp is None else "its own counts and noise"
    return [
        SumsView(
            contract,
            holder=HOSPITAL,
            sums=tuple(sums),
            bound=bound_of_sums(mechanism, len(spec.sites), outcome_.privacy),
            note=f"{own}, which subtracts {taken} from the sums that it decrypts",
        )
    ]


def counted(spec: RunSpec, contract: Contract, people: People) -> tuple[str, list[ObservedCounts], Fitted]:
    """Hold the conversation with these members: the insider, what it saw of the others, and the fitted generator."""
    members, patients = people.members, len(people.members)
    cells = cells_of(contract, DP_BINS)
    tables = {site: members.rows.loc[members.site == site] for site in spec.sites}
    coded = {site: (codes_of(cells, rows), classes(rows, contract)) for site, rows in tables.items()}
    own = max(sorted(tables), key=lambda site: len(tables[site]))
    others = tuple(site for site in sorted(tables) if site != own)
    talk = conversation(cells, len(class_values(contract)), patients, plan_of(spec, contract, patients))
    stage = next(talk)
    sums: list[ObservedCounts] = []
    while True:
        parts = {s: _part(spec, s, len(sums) + 1, stage, *coded[s], patients) for s in sorted(tables)}
        total = whole(np.sum(list(parts.values()), axis=0))
        noise = 0.0 if spec.dp is None else len(others) * sd_here(spec, stage) ** 2 + ROUNDED
        sums.append(ObservedCounts(others, total - parts[own], noise, cells, stage))
        try:
            stage = talk.send(_split(total, stage))
        except StopIteration as end:
            return own, sums, end.value


def _part(spec: RunSpec, site: str, number: int, stage: Stage, codes: Ints, label: Ints, patients: int) -> Floats:
    """One hospital's part of a stage, as :mod:`pettoolkit.arms.synthetic.summed` sent it."""
    counts = np.concatenate([q.exact(codes, label) for q in stage])
    if spec.dp is not None:
        drawn = SeededNoise(spec.seed, site, spec.dp.noise).normals(Draw(PURPOSE, number, 0), len(counts))
        counts += drawn * sd_here(spec, stage)
    return on_grid(counts, patients)


def _split(total: Floats, stage: Stage) -> Sequence[Floats]:
    return np.split(total, np.cumsum([q.size for q in stage])[:-1])


def _check(contract: Contract, outcome_: Outcome, again: pd.DataFrame) -> None:
    """See that the rows drawn again are the released ones, cell by cell."""
    if outcome_.released_table is None:
        raise NotRun("no table was released")
    cells, released = cells_of(contract, DP_BINS), rows_released(outcome_.released_table)
    same_cells = len(released) == len(again) and np.array_equal(codes_of(cells, released), codes_of(cells, again))
    if not same_cells or not np.array_equal(classes(released, contract), classes(again, contract)):
        raise NotRun("the sums of counts could not be played again (other rows come out)")
