"""Pooled: central training on the raw records of all hospitals."""

from __future__ import annotations

import time

import pandas as pd

from pettoolkit.arms.central import encoded
from pettoolkit.arms.common import contract_of, start, train_here
from pettoolkit.arms.exchange import ask
from pettoolkit.cohort.contract import Contract
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import Rows, to_arrays, validation_losses
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="the coordinator, fully: it holds every record",
    leaks_if_collude="the coordinator alone already has everything",
    reversible="nothing is hidden from the coordinator",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect the records, train in one place."""
    began = time.perf_counter()
    contract = contract_of(spec)
    net, _ = start(spec, contract)
    rows = _records(grid, spec, contract, "train", "training")
    held_out = _records(grid, spec, contract, "validation", "validation")
    params, _ = train_here(spec, contract, rows, lambda s: validation_losses(net, s, held_out))
    return Outcome(
        models=Models({Models.SHARED: Weights.of(to_arrays(params))}),
        privacy=PRIVACY,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
    )


def _records(grid: MeteredGrid, spec: RunSpec, contract: Contract, part: str, purpose: str) -> Rows:
    replies = ask(grid, spec, "records", purpose, wants="raw_records", sites=spec.sites, extra={"part": part})
    return encoded(pd.concat([reply.table for reply in replies.values()]), contract)
