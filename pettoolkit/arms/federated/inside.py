"""Federated learning: the hospital sends what a round of training changed, never a record."""

from __future__ import annotations

from pettoolkit.arms.common import start
from pettoolkit.arms.federated.poison import poison_of, poisoned
from pettoolkit.arms.private import count, ledger_summary, not_under_dp
from pettoolkit.arms.rounds import contribution
from pettoolkit.hospital.envelope import Arrays, Envelope, Figures
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.training import to_params, validation_losses


def train(site: Site, request: Request) -> Envelope:
    """This hospital's contribution to the round: its trained model, or its gradient."""
    poison = poison_of(request.spec, site.name)
    arrays, patients = contribution(
        site,
        request.spec,
        request.arrays,
        request.round,
        int(request.extra.get("patients", 0)),
        flipped=poison is not None and poison["kind"] == "label_flip",
    )
    if poison is not None:
        arrays = poisoned(arrays, request.arrays, poison, gradient=request.spec.options["strategy"] == "fedsgd")
    return Envelope("update", "training", Arrays(arrays, patients))


def validate(site: Site, request: Request) -> Envelope:
    """Mean loss of the shared model on this hospital's validation patients, and their count."""
    not_under_dp(site, request.spec, "losses of validation patients")
    net, _ = start(request.spec, site.narrowed(request.spec))
    rows = site.part(request.spec, "validation")
    total = validation_losses(net, [to_params(request.arrays)], rows)[0]
    return Envelope("metrics", "validation", Figures({"loss": total / max(len(rows), 1), "num-examples": len(rows)}))


HANDLERS = {"train": train, "validate": validate, "count": count, "ledger": ledger_summary}
