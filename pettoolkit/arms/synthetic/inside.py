"""Synthetic data: the hospital fits a generator on its training patients and hands over made-up rows.

With ``scope: one_on_pooled`` it hands over its records instead, as in the arm ``pooled``; with ``secure_sum`` it
answers with ciphertexts (:mod:`pettoolkit.arms.synthetic.summed`).
"""

from __future__ import annotations

from pettoolkit.arms.central import validate
from pettoolkit.arms.generating import ledger, rows
from pettoolkit.arms.pooled.inside import records as raw_records
from pettoolkit.arms.private import count
from pettoolkit.arms.synthetic import summed
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Envelope
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site


def records(site: Site, request: Request) -> Envelope:
    """The training patients' records, for a generator outside; only where the run says so."""
    if request.spec.options.get("scope") != "one_on_pooled" or request.extra.get("part") != "train":
        raise Refused(f"hospital {site.name}: this run is not one whose hospitals hand over raw records")
    return raw_records(site, request)


HANDLERS = {"count": count, **summed.HANDLERS, "rows": rows, "records": records, "validate": validate, "ledger": ledger}
