"""Augmented: the coordinator hands each hospital the synthetic rows of all others."""

from __future__ import annotations

import time

import pandas as pd

from pettoolkit.arms.exchange import ask, checked_models
from pettoolkit.errors import BadInput
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, NotMeasured, Outcome, PrivacyStatement, RunSpec

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="everyone who gets the tables: what their rows reveal is measured, not guaranteed; models stay at home",
    leaks_if_collude="the tables of all hospitals together are what everyone already has",
    reversible="rows are made up; rows that resemble a patient too closely can still reveal them",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Collect synthetic rows, hand them round, and let each hospital train by itself.

    Raises
    ------
    BadInput
        If there is one hospital alone.
    """
    if len(spec.sites) < 2:
        raise BadInput("augmented: needs at least two hospitals that train (one has no others' rows)")
    began = time.perf_counter()
    made = ask(grid, spec, "rows", "training", wants="synthetic_records", sites=spec.sites)
    others = {
        site: pd.concat([reply.table for name, reply in made.items() if name != site], ignore_index=True)
        for site in spec.sites
    }
    ask(
        grid,
        spec,
        "receive",
        "training",
        wants="metrics",
        sites=spec.sites,
        kind="synthetic_records",
        tables=others,
    )
    replies = ask(grid, spec, "train", "evaluation", wants="model", sites=spec.sites)
    return Outcome(
        models=checked_models(spec, replies),
        privacy=PRIVACY,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        notes=(f"{sum(len(reply.table) for reply in made.values())} synthetic rows",),
    )
