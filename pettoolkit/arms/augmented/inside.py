"""Augmented: the hospital hands over made-up rows, gets the others', and trains on its own patients and those."""

from __future__ import annotations

import io

import pandas as pd
import torch

from pettoolkit.arms.central import encoded
from pettoolkit.arms.common import predictor_of, train_here
from pettoolkit.arms.generating import rows
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import Rows
from pettoolkit.records import RunSpec


def receive(site: Site, request: Request) -> Envelope:
    """Keep the other hospitals' synthetic rows for the training."""
    if request.table is None:
        raise Refused(f"hospital {site.name}: no synthetic rows of other hospitals came")
    buffer = io.BytesIO()
    request.table.to_parquet(buffer, index=False)
    site.store.put(_key(request.spec), buffer.getvalue())
    return Envelope("metrics", "training", Figures({"rows": len(request.table)}))


def train(site: Site, request: Request) -> Envelope:
    """Train on own patients and received rows; the model goes to the judge alone (purpose ``evaluation``)."""
    spec = request.spec
    contract = site.narrowed(spec)
    kept = site.store.get(_key(spec))
    if kept is None:
        raise Refused(f"hospital {site.name}: it has not received the other hospitals' rows yet")
    own, others = site.part(spec, "train"), encoded(pd.read_parquet(io.BytesIO(kept)), contract)
    weight = int(spec.options["own_weight"])
    both = Rows(torch.cat([*[own.x] * weight, others.x]), torch.cat([*[own.y] * weight, others.y]))
    predictor, held_out = predictor_of(spec, contract), site.part(spec, "validation")
    model, epoch = train_here(spec, contract, both, lambda made: predictor.losses(made, held_out), site.name)
    return Envelope("model", "evaluation", Arrays(model, len(own)), {"best_epoch": epoch})


def _key(spec: RunSpec) -> str:
    return f"augmented/{spec.run_id}"


HANDLERS = {"rows": rows, "receive": receive, "train": train}
