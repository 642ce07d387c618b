"""Synthetic data: central training on the pooled synthetic rows of all hospitals."""

from __future__ import annotations

import time

import pandas as pd

from pettoolkit.arms.central import ask_validation, encoded
from pettoolkit.arms.common import contract_of, train_here
from pettoolkit.arms.exchange import ask
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import to_arrays
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="everyone who gets the table: what its rows reveal is measured, not guaranteed",
    leaks_if_collude="the tables of all hospitals together are what everyone already has",
    reversible="rows are made up; rows that resemble a patient too closely can still reveal them",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect synthetic rows, train in one place, choose the epoch on the hospitals' validation patients."""
    began = time.perf_counter()
    contract = contract_of(spec)
    replies = ask(grid, spec, "rows", "training", wants="synthetic_records", sites=spec.sites)
    rows = encoded(pd.concat([reply.table for reply in replies.values()]), contract)
    params, _ = train_here(spec, contract, rows, lambda snapshots: ask_validation(grid, spec, snapshots))
    return Outcome(
        models=Models({Models.SHARED: Weights.of(to_arrays(params))}),
        privacy=PRIVACY,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        notes=(f"{len(rows)} synthetic rows",),
    )
