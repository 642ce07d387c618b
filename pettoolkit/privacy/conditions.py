"""Which differential privacy can't be had, and why: checked before anything private is touched."""

from __future__ import annotations

import math

from pettoolkit.errors import Refused
from pettoolkit.records import DpSpec

NOBODYS_ROWS = (
    "dp: the contract has no column with role patient_id, so nobody knows which rows are the same patient's; "
    "name it (where each row is another patient, a column that numbers the rows will do)"
)
"""Why a table without patient ids gets no differential privacy for patients."""


def check(
    dp: DpSpec,
    *,
    sites: int,
    patients: int | None = None,
    local_steps: bool = False,
    patient_known: bool = True,
) -> None:
    """Refuse a request for differential privacy that would not mean what it says.

    Parameters
    ----------
    sites
        How many hospitals take part.
    patients
        Training patients (public count) of the place that gives the guarantee, where they are known already.
    local_steps
        Whether hospitals make more than one step between messages.
    patient_known
        Whether it is known whose each row is: without it nobody can say that a patient has only one.

    Raises
    ------
    Refused
        With one line for the first condition that is broken.
    """
    reason = _reason(dp, sites, patients, local_steps, patient_known)
    if reason is not None:
        raise Refused(reason)


def _reason(dp: DpSpec, sites: int, patients: int | None, local_steps: bool, patient_known: bool) -> str | None:
    if not (math.isfinite(dp.epsilon) and dp.epsilon > 0):
        return f"dp.epsilon: must be greater than 0 (got {dp.epsilon})"
    if not 0 < dp.delta < 1:
        return f"dp.delta: must lie between 0 and 1 (got {dp.delta})"
    if patients is not None and dp.delta * patients >= 1:
        return (
            f"dp.delta: {dp.delta:g} must be below 1/{patients}, one over the training patients it protects: "
            "otherwise publishing a patient's whole record would count as private"
        )
    if dp.noise == "shared" and local_steps:
        return "dp.noise: shared noise protects one clipped sum a round; use strategy: fedsgd, or noise: local"
    if dp.honest_sites is not None and not 1 <= dp.honest_sites <= sites:
        return f"dp.honest_sites: must lie between 1 and the {sites} hospitals that take part (got {dp.honest_sites})"
    if dp.batch is not None and dp.batch < 1:
        return f"dp.batch: must be 1 or more, or null for the full batch (got {dp.batch})"
    return None if patient_known else NOBODYS_ROWS
