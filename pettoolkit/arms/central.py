"""Central training on rows that came from hospitals: shared by every arm that releases a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from pettoolkit.arms.common import Losses, Model, predictor_of, train_here
from pettoolkit.arms.exchange import Reply, ask, lacks
from pettoolkit.arms.private import not_under_dp
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


def table_fault(contract: Contract, besides: str | None = None) -> Callable[[Reply], str]:
    """What is wrong with a table when it arrives: see ``fault`` of :func:`ask`; ``besides`` is a column more."""
    return lambda reply: _fault_of(reply.table.drop(columns=besides or [], errors="ignore"), contract)


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


def offset_of(rows: Rows, added: float, positive: float) -> float:
    """What added rows do to the log-odds of the outcome, to be put back: rows of a rare class make it look common.

    With ``added`` rows of ``rows``, ``positive`` of which have the outcome: ``logit`` of the share of positives without
    them minus that with them (prior correction, King and Zeng 2001, Political Analysis 9:137, equation 7). 0 where a
    class would be empty.
    """
    n, ones = float(len(rows)), float(rows.y.sum())
    without = (ones - positive, n - added - (ones - positive))
    if min(*without, ones, n - ones) <= 0:
        return 0.0
    return math.log(without[0] / without[1]) - math.log(ones / (n - ones))


def shifted(arrays: Arrays, offset: float) -> dict[str, npt.NDArray[Any]]:
    """A model, or all candidates of one training, with ``offset`` more on every log-odds."""
    out = dict(arrays)
    if offset == 0:
        return out
    if "root" in out:  # a forest begins with a single leaf
        value = out["value"].copy()
        value[out["root"][0]] += offset
        return out | {"value": value}
    last = max(name for name in out if name.endswith(".bias"))
    return out | {last: (out[last] + offset).astype(out[last].dtype)}


def train_shifted(
    spec: RunSpec, contract: Contract, rows: Rows, losses: Losses, offset: float, *labels: str
) -> tuple[Model, int]:
    """:func:`train_here`, with the log-odds put back before validation patients judge, and in the kept model."""
    model, index = train_here(spec, contract, rows, lambda made: losses(shifted(made, offset)), *labels)
    return shifted(model, offset), index


def ask_validation(grid: MeteredGrid, spec: RunSpec, candidates: Arrays) -> list[float]:
    """Summed loss of each candidate on the validation patients of all hospitals, who stay at home.

    All candidates travel in one message per hospital.
    """
    # a forest's candidates are its first so many trees, the others' are stacked
    count = len(candidates["root"] if "root" in candidates else next(iter(candidates.values())))
    named = [f"loss_{i}" for i in range(count)]
    replies = ask(
        grid,
        spec,
        "validate",
        "validation",
        wants="metrics",
        sites=spec.sites,
        kind="model",
        arrays=candidates,
        fault=lambda reply: lacks(reply, *named),
    )
    return [sum(r.figures[f"loss_{i}"] for r in replies.values()) for i in range(count)]


def validate(site: Site, request: Request) -> Envelope:
    """Inside: the summed validation loss of each candidate (no row leaves)."""
    spec = request.spec
    not_under_dp(site, spec, "losses of validation patients")
    model = predictor_of(spec, site.narrowed(spec))
    losses = model.losses(request.arrays, site.part(spec, "validation"))
    return Envelope("metrics", "validation", Figures({f"loss_{i}": loss for i, loss in enumerate(losses)}))
