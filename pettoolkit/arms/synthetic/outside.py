"""Synthetic data: central training on the pooled synthetic rows of all hospitals."""

from __future__ import annotations

import time
from dataclasses import replace

from pettoolkit.arms import private
from pettoolkit.arms.central import ask_validation, received
from pettoolkit.arms.common import contract_of, start, train_fixed, train_here
from pettoolkit.arms.exchange import ask
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import to_arrays
from pettoolkit.privacy.statement import DOWNSTREAM
from pettoolkit.records import Cost, Models, NotMeasured, Outcome, PrivacyStatement, RunSpec, Weights

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="everyone who gets the table: what its rows reveal is measured, not guaranteed",
    leaks_if_collude="the tables of all hospitals together are what everyone already has",
    reversible="rows are made up; rows that resemble a patient too closely can still reveal them",
)


PRIVATE = replace(
    PRIVACY,
    trust="nobody: the rows have the guarantee by themselves, and so has everything trained on them",
    reversible="rows are made up from noisy counts: what they can reveal is bounded by the guarantee",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect synthetic rows and train on them in one place.

    Without DP the epoch is chosen on the hospitals' validation patients. With it (in the generator) they
    are not read: the model of a fixed epoch is taken. With ``dp.target: downstream`` only the training is
    private, with the synthetic rows as unit: that guarantees nothing to patients, and the statement says so.
    """
    began = time.perf_counter()
    contract = contract_of(spec)
    replies = ask(grid, spec, "rows", "training", wants="synthetic_records", sites=spec.sites)
    rows = received(replies, contract)
    privacy = PRIVACY
    if spec.dp is None:
        model, _ = train_here(spec, contract, rows, lambda made: ask_validation(grid, spec, made))
    elif spec.dp.target == "downstream":
        net, initial = start(spec, contract)
        params, _ = private.train_at_coordinator(spec, net, initial, rows)
        model = to_arrays(params)
        privacy = replace(PRIVACY, guarantee=DOWNSTREAM)
    else:
        model = train_fixed(spec, contract, rows)
        privacy = private.stated(PRIVATE, spec, private.ask_ledgers(grid, spec))
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=privacy,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        notes=(f"{len(rows)} synthetic rows",),
    )
