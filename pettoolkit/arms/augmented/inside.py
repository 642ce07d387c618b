"""Augmented: the hospital hands over made-up rows, gets the others', and trains on its own patients and those."""

from __future__ import annotations

import io
import json

import pandas as pd
import torch

from pettoolkit.arms.augmented import mixed
from pettoolkit.arms.central import encoded, offset_of, shifted, train_shifted
from pettoolkit.arms.common import predictor_of
from pettoolkit.arms.generating import envelope_of
from pettoolkit.arms.generating import rows as open_rows
from pettoolkit.arms.private import ledger_summary
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Arrays, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import Rows, to_arrays
from pettoolkit.records import RunSpec


def rows(site: Site, request: Request) -> Envelope:
    """Synthetic rows for the other hospitals; under DP at the generator's share of the run's budget."""
    if request.spec.dp is None:
        return open_rows(site, request)
    return envelope_of(mixed.private_rows(site, request.spec))


def receive(site: Site, request: Request) -> Envelope:
    """Keep the other hospitals' synthetic rows for the training."""
    if request.table is None:
        raise Refused(f"hospital {site.name}: no synthetic rows of other hospitals came")
    buffer = io.BytesIO()
    request.table.to_parquet(buffer, index=False)
    site.store.put(_key(request.spec), buffer.getvalue())
    return Envelope("metrics", "training", Figures({"rows": len(request.table)}))


def train(site: Site, request: Request) -> Envelope:
    """Train on own patients and received rows; the model goes to the judge alone (purpose ``evaluation``).

    Under DP for a fixed length: validation patients are not read.
    """
    spec = request.spec
    contract = site.narrowed(spec)
    kept = site.store.get(_key(spec))
    if kept is None:
        raise Refused(f"hospital {site.name}: it has not received the other hospitals' rows yet")
    own, others = site.part(spec, "train"), encoded(pd.read_parquet(io.BytesIO(kept)), contract)
    added = json.loads(str(request.extra.get("added", "{}"))).get(site.name, (0.0, 0.0))
    if spec.dp is not None:
        params, patients = mixed.train(site, spec, others)
        weight = int(spec.options["own_weight"])
        # the own share of positives is private: the offset is that of the others' rows, as much as they weigh
        offset = offset_of(others, *added) * len(others) / (len(others) + weight * patients)
        return Envelope("model", "evaluation", Arrays(shifted(to_arrays(params), offset), patients))
    weight = int(spec.options["own_weight"])
    both = Rows(torch.cat([*[own.x] * weight, others.x]), torch.cat([*[own.y] * weight, others.y]))
    predictor, held_out = predictor_of(spec, contract), site.part(spec, "validation")
    offset = offset_of(both, *added)
    model, epoch = train_shifted(spec, contract, both, lambda made: predictor.losses(made, held_out), offset, site.name)
    return Envelope("model", "evaluation", Arrays(model, len(own)), {"best_epoch": epoch})


def _key(spec: RunSpec) -> str:
    return f"augmented/{spec.run_id}"


HANDLERS = {"rows": rows, "receive": receive, "train": train, "ledger": ledger_summary}
