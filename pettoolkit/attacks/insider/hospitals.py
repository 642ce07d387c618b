"""Training rows as hospitals have them, and how much a hospital may learn from sums with shared noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import numpy.typing as npt
import torch

from pettoolkit.attacks.protocol import NO_BOUND, People
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.models.training import Rows
from pettoolkit.privacy.bounds import AttackBound, attack_bound
from pettoolkit.privacy.events import Mechanism
from pettoolkit.records import Guarantee, NotMeasured, PrivacyStatement

XY: tuple[Callable[..., npt.NDArray[np.float32]], ...] = (encode, outcome)


def rows_of(sites: Iterable[str], contract: Contract, people: People) -> dict[str, Rows]:
    """The members of each hospital, encoded, in the order of its table."""
    rows = {site: people.members.rows.loc[people.members.site == site] for site in sites}
    return {site: Rows(*(torch.from_numpy(f(each, contract)) for f in XY)) for site, each in rows.items()}


def bound_of_sums(mechanism: Mechanism | None, sites: int, privacy: PrivacyStatement) -> AttackBound | NotMeasured:
    """For a hospital that knows its own part of the noise: only that of the ``sites - 1`` others protects from it."""
    if mechanism is None or not isinstance(privacy.guarantee, Guarantee):
        return NO_BOUND
    left = min(1.0, math.sqrt((sites - 1) / mechanism.honest_sites)) if mechanism.honest_sites > 1 else 1.0
    return attack_bound([mechanism.quieter(left)], privacy.guarantee.delta)
