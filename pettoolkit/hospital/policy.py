"""The door: the only way out of a hospital, and the rules it keeps.

The rules are the hospital's own. A simulated hospital allows everything; a deployed one allows nothing
until its owner lists it.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.errors import Refused
from pettoolkit.hospital.envelope import KINDS, Envelope, Table
from pettoolkit.records import RunSpec

FEWEST_IN_A_SUM = 3
"""With two hospitals the decrypted sum minus one's own part is the other's."""

EXACT_ROWS = ("raw_records", "anonymised_records")
"""Kinds that hold rows of patients as they are: what is made of them outside is on nobody's account in here."""


class Policy(BaseModel):
    """What may leave one hospital.

    ``evaluation_rows`` grants the benchmark's instrumentation (predictions of single test patients);
    without it only aggregated metrics answer. ``columns`` of None means all columns of the contract.
    ``lifetime_epsilon`` of None means no cap; with a cap, nothing is answered without differential privacy for
    patients, no row leaves, and no run may take a larger delta than ``lifetime_delta``, at which the cap is counted.
    ``two_in_a_sum`` takes part in encrypted sums of two hospitals, each of which can read the other's part.
    ``poisoned`` lets a run ask for an update that is wrong on purpose, which only a simulation has a use for.
    ``sub_samples`` lets the coordinator choose how many patients train, and ``seeds`` are the splits that it
    may ask for (None: any): nested choices would let it subtract one patient from the next.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kinds: tuple[Literal[KINDS], ...] = ()  # type: ignore[valid-type]
    arms: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    evaluation_rows: bool = False
    lifetime_epsilon: float | None = Field(default=None, gt=0)
    lifetime_delta: float = Field(default=1e-5, gt=0, lt=1)
    two_in_a_sum: bool = False
    poisoned: bool = False
    sub_samples: bool = False
    seeds: tuple[int, ...] | None = (0,)
    minimum_cohort: int = Field(default=10, ge=1)

    @classmethod
    def simulated(cls) -> Policy:
        """A simulated hospital: everything is allowed, since nobody real is in it."""
        return cls(
            kinds=KINDS,
            arms=("*",),
            evaluation_rows=True,
            minimum_cohort=1,
            two_in_a_sum=True,
            poisoned=True,
            sub_samples=True,
            seeds=None,
        )

    def admit(self, site: str, arm: str, spec: RunSpec) -> None:
        """Refuse a run that the owner did not grant.

        Raises
        ------
        Refused
            Before anything is computed.
        """
        if "*" not in self.arms and arm not in self.arms:
            raise Refused(f"hospital {site}: arm {arm} is not in its policy (arms: {_listed(self.arms)})")
        if site not in (*spec.sites, *spec.unseen):
            raise Refused(f"hospital {site}: it takes no part in this run")
        if spec.options.get("poison") is not None and not self.poisoned:
            raise Refused(f"hospital {site}: poisoned updates are for simulated hospitals, its policy allows none")
        if spec.patients_per_site is not None and not self.sub_samples:
            raise Refused(
                f"hospital {site}: its policy does not let others choose how many patients train (sub_samples)"
            )
        if self.seeds is not None and spec.seed not in self.seeds:
            raise Refused(f"hospital {site}: seed {spec.seed} is not in its policy (seeds: {_listed(self.seeds)})")
        self._admit_budget(site, spec)
        fewest = 2 if self.two_in_a_sum and spec.options.get("allow_two") else FEWEST_IN_A_SUM
        in_sums = arm.startswith("encrypted") or spec.options.get("scope") == "secure_sum"
        if in_sums and len(set(spec.sites)) < fewest:
            raise Refused(
                f"hospital {site}: a sum over {len(set(spec.sites))} hospitals hides nothing (at least {fewest})"
            )

    def release(self, site: str, envelope: Envelope) -> Envelope:
        """Let an envelope out, or refuse it inside the hospital.

        Raises
        ------
        Refused
            If the kind, the columns or the size of the cohort are not allowed.
        """
        if envelope.kind not in self.kinds:
            raise Refused(f"hospital {site}: kind {envelope.kind} is not in its policy (kinds: {_listed(self.kinds)})")
        if self.lifetime_epsilon is not None and (envelope.kind in EXACT_ROWS or envelope.purpose == "audit"):
            raise Refused(
                f"hospital {site}: its lifetime privacy budget lets no rows of patients out "
                f"({envelope.kind.replace('_', ' ')}), which no ledger of its own covers"
            )
        if envelope.purpose in ("evaluation", "audit") and envelope.kind != "metrics" and not self.evaluation_rows:
            raise Refused(
                f"hospital {site}: {envelope.purpose} of single patients is not granted, only aggregated metrics"
            )
        payload = envelope.payload
        if isinstance(payload, Table) and self.columns is not None:
            extra = sorted(set(payload.rows.columns) - set(self.columns))
            if extra:
                raise Refused(f"hospital {site}: columns not in its policy: {', '.join(extra)}")
        size = len(payload.rows) if isinstance(payload, Table) else getattr(payload, "examples", self.minimum_cohort)
        if size < self.minimum_cohort:
            raise Refused(f"hospital {site}: fewer patients than its minimum cohort of {self.minimum_cohort}")
        return envelope

    def _admit_budget(self, site: str, spec: RunSpec) -> None:
        """Refuse a run that the lifetime budget could not be charged for."""
        if self.lifetime_epsilon is None:
            return
        if spec.dp is None or spec.dp.target != "patients":
            raise Refused(
                f"hospital {site}: its lifetime privacy budget allows runs with differential privacy for patients only"
            )
        if spec.dp.delta > self.lifetime_delta:
            raise Refused(
                f"hospital {site}: dp.delta {spec.dp.delta:g} is above {self.lifetime_delta:g}, at which its lifetime "
                "privacy budget is counted (lifetime_delta); take a smaller one"
            )


def _listed(values: tuple[str, ...] | tuple[int, ...]) -> str:
    return ", ".join(map(str, values)) or "none"
