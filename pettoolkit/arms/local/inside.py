"""Local only: each hospital trains on its own patients and keeps its model."""

from __future__ import annotations

from pettoolkit.arms import private
from pettoolkit.arms.common import predictor_of, train_here
from pettoolkit.hospital.envelope import Arrays, Envelope
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_arrays


def train(site: Site, request: Request) -> Envelope:
    """Train on this hospital's patients; the model goes to the judge alone (purpose ``evaluation``)."""
    spec = request.spec
    if spec.dp is not None:
        private_model, patients = private.train_at_hospital(site, spec, int(request.extra["patients"]))
        return Envelope("model", "evaluation", Arrays(to_arrays(private_model), patients))
    contract = site.narrowed(spec)
    predictor = predictor_of(spec, contract)
    rows, held_out = site.part(spec, "train"), site.part(spec, "validation")
    model, epoch = train_here(spec, contract, rows, lambda made: predictor.losses(made, held_out), site.name)
    return Envelope("model", "evaluation", Arrays(model, len(rows)), {"best_epoch": epoch})


HANDLERS = {"train": train, "count": private.count, "ledger": private.ledger_summary}
