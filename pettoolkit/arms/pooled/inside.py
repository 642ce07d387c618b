"""Pooled: the hospital hands over its records. The reference that everything else is compared with."""

from __future__ import annotations

from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site


def records(site: Site, request: Request) -> Envelope:
    """The training patients' rows, or the validation patients' (``part``)."""
    if request.extra["part"] == "train":
        return Envelope("raw_records", "training", Table(site.table(request.spec, "train")))
    return Envelope("raw_records", "validation", Table(site.table(request.spec, "validation")))


HANDLERS = {"records": records}
