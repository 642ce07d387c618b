"""Augmented: the coordinator hands each hospital the synthetic rows of all others."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pandas as pd

from pettoolkit.arms import private
from pettoolkit.arms.central import table_fault
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.exchange import ask, model_fault, models_of
from pettoolkit.arms.released import added_of, figures_of, notes_of, table_of
from pettoolkit.errors import BadInput
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, NotMeasured, Outcome, PrivacyStatement, RunSpec

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="everyone who gets the tables: what their rows reveal is measured, not guaranteed; models stay at home",
    leaks_if_collude="the tables of all hospitals together are what everyone already has",
    reversible="rows are made up; rows that resemble a patient too closely can still reveal them",
)

PRIVATE = replace(
    PRIVACY,
    trust="nobody: rows and models have the guarantee, which covers both together; models stay at home",
    reversible="what rows and models together can reveal is bounded by the guarantee",
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
    made = ask(
        grid,
        spec,
        "rows",
        "training",
        wants="synthetic_records",
        sites=spec.sites,
        fault=table_fault(contract_of(spec)),
    )
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
    added = {
        site: added_of(figures_of([reply.figures for name, reply in made.items() if name != site]))
        for site in spec.sites
    }
    replies = ask(
        grid,
        spec,
        "train",
        "evaluation",
        wants="model",
        sites=spec.sites,
        extra={"added": json.dumps(added)},
        fault=model_fault(spec),
    )
    figures = figures_of([reply.figures for reply in made.values()])
    return Outcome(
        models=models_of(replies),
        privacy=PRIVACY if spec.dp is None else private.stated(PRIVATE, spec, private.ask_ledgers(grid, spec)),
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
        released_table=table_of(
            [reply.table for reply in made.values()], "synthetic_records", guaranteed=spec.dp is not None
        ),
        figures=figures,
        notes=notes_of(figures),
    )
