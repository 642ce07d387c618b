"""Local only: the coordinator does nothing but ask for the models that the judge scores."""

from __future__ import annotations

import time

from pettoolkit.arms import private
from pettoolkit.arms.exchange import ask, model_fault, models_of
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Cost, NotMeasured, Outcome, PrivacyStatement, RunSpec

PRIVACY = PrivacyStatement(
    guarantee=NotMeasured("no differential privacy"),
    trust="nobody: each hospital keeps its records and its model",
    leaks_if_collude="nothing leaves, so there is nothing to pool",
    reversible="nothing to reverse",
)


def coordinate(grid: MeteredGrid, spec: RunSpec) -> Outcome:
    """Each hospital trains alone; the models travel to the judge, which is not part of the technology."""
    began = time.perf_counter()
    extra = {} if spec.dp is None else {"patients": private.ask_patients(grid, spec)}
    replies = ask(
        grid, spec, "train", "evaluation", wants="model", sites=spec.sites, extra=extra, fault=model_fault(spec)
    )
    models = models_of(replies)
    privacy = PRIVACY
    if spec.dp is not None:
        privacy = private.stated(PRIVACY, spec, private.ask_ledgers(grid, spec, "evaluation"))
    return Outcome(
        models=models,
        privacy=privacy,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
    )
