"""The quick quality declaration of a cell that releases a table: its figures as metrics, and the whole as an artifact.

This is instrumentation of the benchmark (purpose ``audit``): only simulated hospitals hand over the rows that it reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pettoolkit.arms.common import contract_of
from pettoolkit.arms.released import rows_released
from pettoolkit.attacks.outside import people_of
from pettoolkit.errors import BadInput, SiteFailed
from pettoolkit.evaluation.intervals import Estimate
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Guarantee, NotMeasured, Outcome, RunSpec

if TYPE_CHECKING:
    from pettoolkit.attacks.protocol import People
    from pettoolkit.evaluation.quality.figures import Candidate, Declaration

ARTIFACT = "declaration.json"


@dataclass(frozen=True)
class Declared:
    """What a cell gets from its declaration; ``notes`` says why there is none where one was to be expected."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def declared(grid: MeteredGrid, spec: RunSpec, outcome: Outcome) -> Declared:
    """Declare the table of an outcome that has one.

    Its rows are compared with those of the training patients, and models tested on the reference patients.
    """
    if outcome.released_table is None:
        return Declared()
    try:
        found = _measured(people_of(grid, spec), spec, outcome)
    except (SiteFailed, BadInput) as error:
        return Declared(notes=(f"no quality declaration: {error}",))
    from pettoolkit.experiment.declare import as_json

    return Declared(metrics_of(found.candidates[0]), {ARTIFACT: as_json(found, indent=None).encode()})


def _measured(people: People, spec: RunSpec, outcome: Outcome) -> Declaration:
    from pettoolkit.evaluation.quality.declaration import Given, declare
    from pettoolkit.evaluation.quality.mode import QUICK

    assert outcome.released_table is not None, "the caller saw to it"
    name = str(outcome.released_table["kind"]).replace("_", " ")
    private = outcome.privacy.guarantee
    stated = f"epsilon {private.epsilon:g} at delta {private.delta:g}" if isinstance(private, Guarantee) else "none"
    reference = people.control, people.attacker
    given = Given(
        real=people.members.rows,
        candidates={name: rows_released(outcome.released_table)},
        contract=contract_of(spec),
        real_name="training patients",
        hospital=people.members.site.astype(object),
        holdout=pd.concat([group.rows for group in reference], ignore_index=True),
        holdout_hospital=np.concatenate([group.site for group in reference]).astype(object),
        guarantees={name: stated},
    )
    return declare(given, seed=spec.seed, mode=QUICK)


def metrics_of(candidate: Candidate) -> dict[str, float]:
    """The few figures of a declaration that are compared between cells, each with its floor where it has one."""
    told = candidate.distinguishability
    named: dict[str, object] = {
        "columns_distance": candidate.univariate.mean,
        "columns_distance_floor": candidate.univariate.floor,
        "columns_beyond_floor": candidate.univariate.beyond_floor / max(candidate.univariate.measured, 1),
        "pairs_distance": candidate.bivariate.mean,
        "pairs_distance_floor": candidate.bivariate.floor,
        "pairs_beyond_floor": candidate.bivariate.beyond_floor / max(candidate.bivariate.measured, 1),
        "identical_share": candidate.copies.identical_share,
    }
    if not isinstance(told, NotMeasured):
        named |= {"distinguishability": told.auroc, "distinguishability_floor": told.floor}
    if not isinstance(candidate.utility, NotMeasured):
        model, trained = next(iter(candidate.utility.models.items()))
        lost = f"lost_{candidate.utility.headline}_{model}"
        named |= {lost: trained.loss, f"{lost}_floor": trained.floor}
    values = {name: v.value if isinstance(v, Estimate) else v for name, v in named.items()}
    return {f"quality/{name}": v for name, v in values.items() if isinstance(v, float)}
