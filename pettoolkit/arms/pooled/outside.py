"""Pooled: central training on the raw records of all hospitals."""

from __future__ import annotations

import time
from dataclasses import replace

from pettoolkit.arms import private
from pettoolkit.arms.central import received
from pettoolkit.arms.common import contract_of, predictor_of, start, train_here
from pettoolkit.arms.exchange import ask
from pettoolkit.cohort.contract import Contract
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import Rows, to_arrays
from pettoolkit.privacy.statement import COORDINATOR
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="the coordinator, fully: it holds every record",
    leaks_if_collude="the coordinator alone already has everything",
    reversible="nothing is hidden from the coordinator",
)


PRIVATE = replace(
    PRIVACY,
    reversible="nothing is hidden from the coordinator; the released model has the guarantee",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect the records, train in one place; under DP the noise is the coordinator's."""
    began = time.perf_counter()
    contract = contract_of(spec)
    rows = _records(grid, spec, contract, "train", "training")
    if spec.dp is not None:
        net, initial = start(spec, contract)
        params, ledger = private.train_at_coordinator(spec, net, initial, rows)
        model = to_arrays(params)
        privacy = private.stated(PRIVATE, spec, {COORDINATOR: ledger.summary()})
    else:
        held_out = _records(grid, spec, contract, "validation", "validation")
        predictor = predictor_of(spec, contract)
        model, _ = train_here(spec, contract, rows, lambda made: predictor.losses(made, held_out))
        privacy = PRIVACY
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=privacy,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
    )


def _records(grid: MeteredGrid, spec: RunSpec, contract: Contract, part: str, purpose: str) -> Rows:
    replies = ask(grid, spec, "records", purpose, wants="raw_records", sites=spec.sites, extra={"part": part})
    return received(replies, contract)
