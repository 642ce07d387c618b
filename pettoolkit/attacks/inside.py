"""Inside a hospital: hand the judge the rows that attacks need (purpose ``audit``).

This is instrumentation of the benchmark, not part of any technology. Its door lets it out of simulated hospitals
only (``Policy.evaluation_rows``): whoever measures a deployment's risk does so on simulated patients or on their own.
"""

from __future__ import annotations

import numpy as np

from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site

PARTS = ("train", "control", "attacker", "validation")
PATIENT = "patient number"
"""Column of the answer: which rows are the same patient's, numbered in the hospital's own table."""


def people(site: Site, request: Request) -> Envelope:
    """Rows of one part in natural units: members (``train``), patients never used, or those who chose the epoch."""
    part = str(request.extra["part"])
    if part not in PARTS:
        raise Refused(f"hospital {site.name}: an audit gets {', '.join(PARTS)}, not {part}")
    if not site.policy.evaluation_rows:  # before a row is read; the door would refuse it too
        raise Refused(f"hospital {site.name}: rows for attacks are granted by simulated hospitals only")
    chosen = site.index(request.spec, part)  # type: ignore[arg-type]
    numbers = np.unique(site.patients().astype(str), return_inverse=True)[1][chosen]
    rows = site.table(request.spec, part)  # type: ignore[arg-type]
    return Envelope("raw_records", "audit", Table(rows.assign(**{PATIENT: numbers.astype(np.int64)})))


HANDLERS = {"people": people}
