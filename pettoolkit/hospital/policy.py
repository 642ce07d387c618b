"""The door: the only way out of a hospital, and the rules it keeps.

The rules are the hospital's own. A simulated hospital allows everything; a deployed one allows nothing
until its owner lists it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import KINDS, Arrays, Ciphertexts, Envelope, Table


class Policy(BaseModel):
    """What may leave one hospital.

    ``evaluation_rows`` grants the benchmark's instrumentation (predictions of single test patients);
    without it only aggregated metrics answer. ``columns`` of None means all columns of the contract.
    ``lifetime_epsilon`` of None means no cap.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Literal[KINDS], ...] = ()  # type: ignore[valid-type]
    arms: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    evaluation_rows: bool = False
    lifetime_epsilon: float | None = Field(default=None, gt=0)
    minimum_cohort: int = Field(default=10, ge=1)

    @classmethod
    def simulated(cls) -> Policy:
        """A simulated hospital: everything is allowed, since nobody real is in it."""
        return cls(kinds=KINDS, arms=("*",), evaluation_rows=True, minimum_cohort=1)

    def admit(self, site: str, arm: str) -> None:
        """Refuse a request of an arm that the owner did not list.

        Raises
        ------
        Refused
            Before anything is computed.
        """
        if "*" not in self.arms and arm not in self.arms:
            raise Refused(f"hospital {site}: arm {arm} is not in its policy (arms: {_listed(self.arms)})")

    def release(self, site: str, envelope: Envelope) -> Envelope:
        """Let an envelope out, or refuse it inside the hospital.

        Raises
        ------
        Refused
            If the kind, the columns or the size of the cohort are not allowed.
        """
        if envelope.kind not in self.kinds:
            raise Refused(f"hospital {site}: kind {envelope.kind} is not in its policy (kinds: {_listed(self.kinds)})")
        if envelope.purpose in ("evaluation", "audit") and envelope.kind != "metrics" and not self.evaluation_rows:
            raise Refused(
                f"hospital {site}: {envelope.purpose} of single patients is not granted, only aggregated metrics"
            )
        payload = envelope.payload
        if isinstance(payload, Table) and self.columns is not None:
            extra = sorted(set(payload.rows.columns) - set(self.columns))
            if extra:
                raise Refused(f"hospital {site}: columns not in its policy: {', '.join(extra)}")
        if isinstance(payload, Arrays | Ciphertexts) and payload.examples < self.minimum_cohort:
            raise Refused(f"hospital {site}: fewer patients than its minimum cohort of {self.minimum_cohort}")
        return envelope


def _listed(values: tuple[str, ...]) -> str:
    return ", ".join(values) or "none"
