"""Synthetic data: the hospital fits a generator on its training patients and hands over made-up rows.

With ``scope: one_on_pooled`` it hands over its records instead, as in the arm ``pooled``.
"""

from __future__ import annotations

from pettoolkit.arms.central import validate
from pettoolkit.arms.generating import ledger, rows
from pettoolkit.arms.pooled.inside import records as raw_records
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Envelope
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site


def records(site: Site, request: Request) -> Envelope:
    """The training patients' records, for a generator outside; only where the run says so."""
    if request.spec.options.get("scope") != "one_on_pooled" or request.extra.get("part") != "train":
        raise Refused(f"hospital {site.name}: this run is not one whose hospitals hand over raw records")
    return raw_records(site, request)


HANDLERS = {"rows": rows, "records": records, "validate": validate, "ledger": ledger}
