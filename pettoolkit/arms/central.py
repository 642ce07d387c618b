"""Central training on rows that came from hospitals: shared by every arm that releases a table."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch

from pettoolkit.arms.common import predictor_of
from pettoolkit.arms.exchange import Reply, ask
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.errors import SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.predictor import Arrays
from pettoolkit.models.training import Rows
from pettoolkit.records import RunSpec


def received(replies: Mapping[str, Reply], contract: Contract) -> Rows:
    """Check, pool and encode the tables of all hospitals.

    Raises
    ------
    SiteFailed
        Naming the hospital whose table is empty, or has other columns, texts for numbers, or other outcomes.
    """
    for site, reply in replies.items():
        if fault := _fault_of(reply.table, contract):
            raise SiteFailed(site, fault)
    return encoded(pd.concat([reply.table for reply in replies.values()]), contract)


def _fault_of(table: pd.DataFrame, contract: Contract) -> str:
    """What is wrong with a received table, empty if nothing is."""
    expected = {*(c.name for c in contract.feature_columns), contract.outcome.name}
    if set(table.columns) != expected:
        odd = sorted(set(table.columns) ^ expected)
        return f"its table has not the contract's columns (differs in {', '.join(odd[:5])})"
    if table.empty:
        return "its table is empty"
    if not table[contract.outcome.name].isin((0, 1)).all():
        return f"column {contract.outcome.name} of its table is not 0 or 1 everywhere"
    for column in contract.feature_columns:
        values = table[column.name]
        if column.kind == "category":
            if not values.dropna().isin(column.levels).all():
                return f"column {column.name} of its table has a level that the contract does not know"
        elif not pd.api.types.is_numeric_dtype(values) or np.isinf(values.to_numpy(dtype=np.float64)).any():
            return f"column {column.name} of its table is not all finite numbers"
    return ""


def encoded(table: pd.DataFrame, contract: Contract) -> Rows:
    """Encode rows that were received, as the hospitals encode theirs."""
    return Rows(torch.from_numpy(encode(table, contract)), torch.from_numpy(outcome(table, contract)))


def ask_validation(grid: MeteredGrid, spec: RunSpec, candidates: Arrays) -> list[float]:
    """Summed loss of each candidate on the validation patients of all hospitals, who stay at home.

    All candidates travel in one message per hospital.
    """
    replies = ask(
        grid, spec, "validate", "validation", wants="metrics", sites=spec.sites, kind="model", arrays=candidates
    )
    count = min(len(r.figures) for r in replies.values())
    return [sum(r.figures[f"loss_{i}"] for r in replies.values()) for i in range(count)]


def validate(site: Site, request: Request) -> Envelope:
    """Inside: the summed validation loss of each candidate (no row leaves)."""
    spec = request.spec
    model = predictor_of(spec, site.narrowed(spec))
    losses = model.losses(request.arrays, site.part(spec, "validation"))
    return Envelope("metrics", "validation", Figures({f"loss_{i}": loss for i, loss in enumerate(losses)}))
