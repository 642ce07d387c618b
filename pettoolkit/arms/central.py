"""Central training on rows that came from hospitals: shared by every arm that releases a table."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from pettoolkit.arms.exchange import ask
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.features import encode, outcome
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.hospital.envelope import Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.dense import Params
from pettoolkit.models.training import Rows, to_params, validation_losses
from pettoolkit.records import RunSpec


def encoded(table: pd.DataFrame, contract: Contract) -> Rows:
    """Encode rows that were received, as the hospitals encode theirs."""
    return Rows(torch.from_numpy(encode(table, contract)), torch.from_numpy(outcome(table, contract)))


def ask_validation(grid: MeteredGrid, spec: RunSpec, snapshots: Sequence[Params]) -> list[float]:
    """Summed loss of each snapshot on the validation patients of all hospitals, who stay at home.

    All snapshots travel in one message per hospital, stacked along a new first axis.
    """
    arrays = {name: np.stack([s[name].numpy() for s in snapshots]) for name in snapshots[0]}
    replies = ask(grid, spec, "validate", "validation", wants="metrics", sites=spec.sites, kind="model", arrays=arrays)
    return [sum(r.figures[f"loss_{i}"] for r in replies.values()) for i in range(len(snapshots))]


def validate(site: Site, request: Request) -> Envelope:
    """Inside: the summed validation loss of each snapshot (no row leaves)."""
    from pettoolkit.arms.common import start

    spec = request.spec
    net, _ = start(spec, site.narrowed(spec))
    count = len(next(iter(request.arrays.values())))
    snapshots = [to_params({name: a[i] for name, a in request.arrays.items()}) for i in range(count)]
    losses = validation_losses(net, snapshots, site.part(spec, "validation"))
    return Envelope("metrics", "validation", Figures({f"loss_{i}": loss for i, loss in enumerate(losses)}))
