"""Pooled: the hospital hands over its records. The reference that everything else is compared with."""

from __future__ import annotations

import numpy as np

from pettoolkit.arms.private import not_under_dp
from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import Envelope, Table
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.privacy.conditions import NOBODYS_ROWS

SYSTEM_NOISE = "system_noise"
"""Figure: whether this is a deployed hospital, for which noise must not come from a seed."""


def records(site: Site, request: Request) -> Envelope:
    """The training patients' rows, or the validation patients' (``part``).

    For differential privacy the coordinator must know which rows are the same patient's: they get numbers, not ids.
    """
    spec = request.spec
    if request.extra["part"] != "train":
        not_under_dp(site, spec, "rows of validation patients")
        return Envelope("raw_records", "validation", Table(site.table(spec, "validation")))
    rows = site.table(spec, "train")
    if spec.dp is None:
        return Envelope("raw_records", "training", Table(rows))
    name = site.contract.named("patient_id")
    if name is None:
        raise Refused(f"hospital {site.name}: {NOBODYS_ROWS}")
    patient, patients = site.training_patients(spec)
    rows.insert(0, name, np.arange(patients) if patient is None else patient.numpy())
    return Envelope("raw_records", "training", Table(rows), {SYSTEM_NOISE: float(site.system_noise)})


HANDLERS = {"records": records}
