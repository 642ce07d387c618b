"""Which differential privacy can't be had, and why: checked before anything private is touched."""

from __future__ import annotations

import math

from pettoolkit.errors import Refused
from pettoolkit.records import DpSpec


def check(
    dp: DpSpec,
    *,
    sites: int,
    smallest: int | None = None,
    local_steps: bool = False,
    rows_per_patient: int = 1,
    patient_known: bool = True,
) -> None:
    """Refuse a request for differential privacy that would not mean what it says.

    Parameters
    ----------
    sites
        How many hospitals take part.
    smallest
        Patients (public count) of the smallest hospital, where it is known already.
    local_steps
        Whether hospitals make more than one step between messages.
    rows_per_patient
        The most rows that a patient can have.
    patient_known
        Whether rows can be told to be the same patient's.

    Raises
    ------
    Refused
        With one line for the first condition that is broken.
    """
    reason = _reason(dp, sites, smallest, local_steps, rows_per_patient, patient_known)
    if reason is not None:
        raise Refused(reason)


def _reason(
    dp: DpSpec, sites: int, smallest: int | None, local_steps: bool, rows_per_patient: int, patient_known: bool
) -> str | None:
    if not (math.isfinite(dp.epsilon) and dp.epsilon > 0):
        return f"dp.epsilon: must be greater than 0 (got {dp.epsilon})"
    if not 0 < dp.delta < 1:
        return f"dp.delta: must lie between 0 and 1 (got {dp.delta})"
    if smallest is not None and dp.delta * smallest >= 1:
        return (
            f"dp.delta: {dp.delta:g} must be below 1/{smallest}, one over the patients of the smallest hospital: "
            "otherwise publishing a patient's whole record would count as private"
        )
    if dp.noise == "shared" and local_steps:
        return "dp.noise: shared noise protects one clipped sum a round; use strategy: fedsgd, or noise: local"
    if dp.honest_sites is not None and not 1 <= dp.honest_sites <= sites:
        return f"dp.honest_sites: must lie between 1 and the {sites} hospitals that take part (got {dp.honest_sites})"
    if dp.batch is not None and dp.batch < 1:
        return f"dp.batch: must be 1 or more, or null for the full batch (got {dp.batch})"
    if rows_per_patient > 1 and not patient_known:
        return "dp: rows can't be told apart by patient; name the column with role patient_id in the contract"
    return None
