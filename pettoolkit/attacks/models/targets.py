"""Who is attacked, and who is in which shadow's training rows."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pettoolkit.attacks.protocol import Effort, Group, People
from pettoolkit.attacks.statistics import Bools, Floats, Ints

MOST_OF_A_TARGET = 0.75
"""A target is in a random half of the shadows, or in up to so many where training rows would otherwise get too few."""


@dataclass(frozen=True)
class Targets:
    """Targets among the patients of the pool (members first, then control), one entry per patient.

    ``patients`` are their positions among all patients of the pool, ``patient`` their numbers, ``member`` and ``site``
    theirs. ``of_row`` is the position of each row's patient. ``site_of`` the hospital of all patients of the pool,
    ``trained`` whether they are members, ``training`` how many patients the released model was trained on.
    """

    patients: npt.NDArray[np.intp]
    patient: Ints
    member: Bools
    site: npt.NDArray[np.str_]
    of_row: npt.NDArray[np.intp]
    trained: Bools
    digest: str

    def inclusion(self, shadows: int, seed: int) -> Bools:
        """Who is in which shadow, shape (patients of the pool, shadows): independent coins.

        Targets are in with probability one half and everybody else in so many that a shadow has as many training
        patients as the released model (with many targets, targets are in more often).
        """
        everyone, wanted = len(self.trained), int(self.trained.sum())
        rest = everyone - len(self.patients)
        share = float(np.clip((wanted - rest) / max(1, len(self.patients)), 0.5, MOST_OF_A_TARGET))
        others = float(np.clip((wanted - share * len(self.patients)) / max(1, rest), 0.0, 1.0))
        probability = np.full(everyone, others)
        probability[self.patients] = share
        drawn: Bools = np.random.default_rng([seed, 7]).random((everyone, shadows)) < probability[:, None]
        return drawn

    def margin(self, logits: Floats, y: npt.NDArray[np.float32]) -> Floats:
        """Margins of the targets, (models, targets), from logits (models, rows): the mean over a patient's rows."""
        margins = logits * (2 * y - 1)
        counts = np.bincount(self.of_row, minlength=len(self.trained))
        if (counts == 1).all():
            by_patient = np.empty_like(margins)
            by_patient[:, self.of_row] = margins
        else:
            by_patient = np.stack([np.bincount(self.of_row, row, len(self.trained)) / counts for row in margins])
        return np.asarray(by_patient[:, self.patients])


def choose(people: People, effort: Effort, *, by_site: bool = False) -> Targets:
    """At most ``effort.targets`` patients: as many control patients as members, as far as there are.

    Parameters
    ----------
    by_site
        Each hospital trained by itself: nothing changes here, but shadows are then drawn within hospitals.
    """
    ids, of_row, first = _patients(people.members, people.control)
    trained = np.zeros(len(ids), dtype=bool)
    trained[of_row[: len(people.members)]] = True
    rng = np.random.default_rng([effort.seed, 6])
    members, others = np.flatnonzero(trained), np.flatnonzero(~trained)
    control = rng.permutation(others)[: effort.targets // 2]
    chosen = np.sort(np.concatenate([rng.permutation(members)[: effort.targets - len(control)], control]))
    sites = np.concatenate([people.members.site, people.control.site]).astype(str)
    digest = hashlib.sha256()
    for group in (people.members, people.control, people.attacker):
        digest.update(group.patient.tobytes())
        digest.update(group.rows.to_numpy(dtype=object).astype(str).tobytes())
    digest.update(chosen.tobytes() + bytes([by_site]))
    return Targets(chosen, ids[chosen], trained[chosen], sites[first][chosen], of_row, trained, digest.hexdigest())


def _patients(members: Group, control: Group) -> tuple[Ints, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Numbers of all patients, the position of each row's patient, and each patient's first row."""
    numbers = np.concatenate([members.patient, control.patient])
    ids, first, of_row = np.unique(numbers, return_index=True, return_inverse=True)
    return ids.astype(np.int64), of_row, first
