"""Pooled: central training on the raw records of all hospitals."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from pettoolkit.arms import private
from pettoolkit.arms.central import received, table_fault
from pettoolkit.arms.common import contract_of, predictor_of, start, train_here
from pettoolkit.arms.exchange import TABLE, Reply, ask
from pettoolkit.arms.pooled.inside import SYSTEM_NOISE
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import Refused, SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.models.training import Rows, to_arrays
from pettoolkit.privacy.conditions import NOBODYS_ROWS
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
    replies = _records(grid, spec, "train", "training")
    if spec.dp is not None:
        rows, patient = _of_patients(replies, contract)
        net, initial = start(spec, contract)
        simulated = not any(reply.figures.get(SYSTEM_NOISE) for reply in replies.values())
        params, ledger = private.train_at_coordinator(spec, net, initial, rows, patient, simulated=simulated)
        model = to_arrays(params)
        privacy = private.stated(PRIVATE, spec, {COORDINATOR: ledger.summary()})
    else:
        held_out = received(_records(grid, spec, "validation", "validation"), contract)
        predictor = predictor_of(spec, contract)
        rows = received(replies, contract)
        model, _ = train_here(spec, contract, rows, lambda made: predictor.losses(made, held_out))
        privacy = PRIVACY
    return Outcome(
        models=Models({Models.SHARED: Weights.of(model)}),
        privacy=privacy,
        exposure=grid.exposure(),
        cost=Cost(time.perf_counter() - began),
    )


def _records(grid: MeteredGrid, spec: RunSpec, part: str, purpose: str) -> dict[str, Reply]:
    contract = contract_of(spec)
    number = contract.named("patient_id") if spec.dp is not None else None
    return ask(
        grid,
        spec,
        "records",
        purpose,
        wants="raw_records",
        sites=spec.sites,
        extra={"part": part},
        fault=table_fault(contract, number),
    )


def _of_patients(replies: Mapping[str, Reply], contract: Contract) -> tuple[Rows, Tensor | None]:
    """Pooled rows, and whose each is, (n,); None where each is another patient's.

    Raises
    ------
    SiteFailed
        Naming the hospital whose table does not say it.
    """
    name = contract.named("patient_id")
    if name is None:
        raise Refused(NOBODYS_ROWS)
    tables: dict[str, Reply] = {}
    whose: list[npt.NDArray[np.int64]] = []
    for site, reply in replies.items():
        numbers = reply.table.get(name)
        if numbers is None or not pd.api.types.is_integer_dtype(numbers):
            raise SiteFailed(site, f"its table does not number the patients in column {name}")
        code = np.unique(numbers.to_numpy(), return_inverse=True)[1]
        whose.append(code + sum(len(np.unique(w)) for w in whose))  # each patient is in one hospital
        tables[site] = replace(reply, tables={TABLE: reply.table.drop(columns=name)})
    rows, patient = received(tables, contract), np.concatenate(whose)
    return rows, torch.from_numpy(patient) if len(np.unique(patient)) < len(patient) else None
