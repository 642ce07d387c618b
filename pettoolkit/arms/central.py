"""Central training on rows that came from hospitals: shared by every arm that releases a table."""

from __future__ import annotations

import pandas as pd
import torch

from pettoolkit.arms.common import predictor_of
from pettoolkit.arms.exchange import ask
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.predictor import Arrays
from pettoolkit.models.training import Rows
from pettoolkit.records import RunSpec


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
