"""Keys of ``arm: federated``."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.arms.keys import ArmKeys, Count, Positive, Share
from pettoolkit.records import DpSpec, Json, ModelSpec, RunSpec

LEARNING_RATES = {
    # strategy: model: rate. FedSGD's is of the full-batch step, FedAdam's the hospitals' (its server rate is Flower's)
    "fedavg": {"logistic": 0.5, "mlp": 0.5},
    "fedprox": {"logistic": 0.5, "mlp": 0.5},
    "fedadam": {"logistic": 0.5, "mlp": 0.5},
    "fedsgd": {"logistic": 1.0, "mlp": 1.0},
    "fedmedian": {"logistic": 0.5, "mlp": 0.5},
    "fedtrimmedavg": {"logistic": 0.5, "mlp": 0.5},
    "krum": {"logistic": 0.5, "mlp": 0.5},
}
"""Default learning rate by strategy and model."""

ROBUST = ("fedmedian", "fedtrimmedavg", "krum")
"""Strategies that a few poisoned updates can't take where they like; they count every hospital alike."""

ROUNDS = {"fedavg": 30, "fedprox": 30, "fedadam": 30, "fedsgd": 200, **dict.fromkeys(ROBUST, 30)}
"""Default number of rounds by strategy."""

BATCH, MOMENTUM = 64, 0.9
"""Defaults without DP, which uses neither."""

TRIM = 0.2
"""Share of hospitals that fedtrimmedavg cuts off at either end of each weight, Flower's default."""

PROXIMAL_MU = 0.01
"""FedProx's default pull towards the shared model (Li et al. 2020, arXiv:1812.06127, tune it in .001-1)."""

NO_PULL = "steps with differential privacy have no pull towards the shared model"
"""Why FedProx under DP would be FedAvg by another name."""


class RoundKeys(ArmKeys):
    """Keys of arms that train in rounds; the round that validation patients like best is kept (under DP the last)."""

    rounds: Count | None = Field(default=None, description="Rounds; 30, or 200 with fedsgd, if not written.")
    local_epochs: Count = Field(default=1, description="Passes over its rows that a hospital makes in a round.")
    batch_size: Count | None = Field(
        default=None, description=f"Rows per local step, {BATCH} if not written; fedsgd takes all rows."
    )
    learning_rate: Positive | None = Field(
        default=None, description="Depends on strategy and model if not written (see the arm's config.py)."
    )
    momentum: Share | None = Field(
        default=None, description=f"Of the steps of fedsgd, {MOMENTUM} if not written; the others do not use it."
    )

    def chosen(self, dp: DpSpec | None) -> str:
        """The strategy: what is written, else fedavg without DP and fedsgd (one clipped sum a round) with it."""
        written = getattr(self, "strategy", None)
        return str(written) if written else ("fedavg" if dp is None else "fedsgd")

    def unused(self, dp: DpSpec) -> tuple[str, ...]:
        """See :meth:`ArmKeys.unused`."""
        return ("batch_size", "momentum")

    def options(self, model: ModelSpec, dp: DpSpec | None) -> dict[str, Json]:
        """See :meth:`ArmKeys.options`; under DP unwritten rounds and rates are left to the rule for DP training."""
        options = super().options(model, dp)
        strategy = options["strategy"] = self.chosen(dp)
        options["batch_size"] = self.batch_size or BATCH
        options["momentum"] = MOMENTUM if self.momentum is None else self.momentum
        if dp is None:
            options["rounds"] = self.rounds or ROUNDS[strategy]
            options["learning_rate"] = self.learning_rate or LEARNING_RATES[strategy].get(model.name)
        return options

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.options["strategy"] == "fedsgd" and self.local_epochs != 1:
            return "local_epochs: fedsgd sends one gradient a round; write strategy: fedavg for local steps"
        return super().refuse(cell) or (self._uneven(cell.model) if cell.dp is not None else None)

    def _uneven(self, model: ModelSpec) -> str | None:
        """Why the rule's steps can't be shared out over rounds of so many, or None; written rounds are steps enough."""
        from pettoolkit.privacy.settings import step_counts

        if self.rounds is not None:
            return None
        counts = step_counts(model)
        left = [steps for steps in counts if steps % self.local_epochs]
        if not left:
            return None
        return (
            f"local_epochs: {self.local_epochs} steps a round do not divide the {left[0]} of the rule for differential "
            f"privacy, so that a part of the budget would be left; write rounds, or a divisor of {math.gcd(*counts)}"
        )


class PoisonKeys(BaseModel):
    """Hospitals that misbehave, in simulations only."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sites: Annotated[tuple[str, ...], Field(min_length=1, description="Which hospitals misbehave.")]
    kind: Literal["scale", "sign_flip", "label_flip"] = Field(
        description="Send an update that is too long, one in the opposite direction, or train on swapped outcomes."
    )
    factor: Positive = Field(default=10.0, description="scale and sign_flip: how many times as long the update is.")


class FederatedKeys(RoundKeys):
    """Flower's strategies on plain updates, and FedSGD: one full-batch gradient per hospital and round."""

    arm: Literal["federated"]
    strategy: Literal["fedavg", "fedsgd", "fedprox", "fedadam", "fedmedian", "fedtrimmedavg", "krum"] | None = Field(
        default=None, description="fedavg if not written, fedsgd with dp."
    )
    trim: Annotated[float, Field(strict=True, gt=0, lt=0.5)] | None = Field(
        default=None, description=f"fedtrimmedavg: share cut off at either end, {TRIM} if not written."
    )
    malicious: Count | None = Field(
        default=None, description="krum: poisoned hospitals that are reckoned with, 1 if not written."
    )
    poison: PoisonKeys | None = Field(default=None, description="Hospitals that misbehave (simulations only).")
    proximal_mu: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = Field(
        default=None, description="FedProx's pull towards the shared model (fedprox only)."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)

    def options(self, model: ModelSpec, dp: DpSpec | None) -> dict[str, Json]:
        """See :meth:`RoundKeys.options`."""
        options = super().options(model, dp)
        if self.proximal_mu is None:
            options["proximal_mu"] = PROXIMAL_MU if options["strategy"] == "fedprox" else 0.0
        # keys that a strategy does not use are not there, so that cells of before are the same cells
        for name, strategy, default in (("trim", "fedtrimmedavg", TRIM), ("malicious", "krum", 1)):
            if options["strategy"] == strategy:
                options[name] = default if options[name] is None else options[name]
            elif options[name] is None:
                del options[name]
        if self.poison is None:
            del options["poison"]
        else:
            options["poison"] = self.poison.model_dump(mode="json")
        return options

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if reason := self._refuse_robust(cell):
            return reason
        if self.proximal_mu is not None and cell.options["strategy"] != "fedprox":
            return f"proximal_mu belongs to strategy: fedprox (got strategy {cell.options['strategy']})"
        if cell.dp is not None and cell.options["strategy"] == "fedprox":
            return f"strategy fedprox: {NO_PULL}; write strategy: fedavg, or leave dp out"
        if cell.dp is not None and cell.dp.noise == "shared":
            return "shared noise needs a sum whose parts nobody sees; write arm: encrypted_aggregation, or noise: local"
        return super().refuse(cell)

    def _refuse_robust(self, cell: RunSpec) -> str | None:
        """What is wrong with the keys of robust strategies and of poisoned hospitals, or None."""
        strategy = cell.options["strategy"]
        for name, owner in (("trim", "fedtrimmedavg"), ("malicious", "krum")):
            if getattr(self, name) is not None and strategy != owner:
                return f"{name} belongs to strategy: {owner} (got strategy {strategy})"
        needed = 2 * int(cell.options.get("malicious") or 0) + 3
        if strategy == "krum" and cell.sites and len(cell.sites) < needed:
            return (
                f"malicious: krum outvotes {cell.options['malicious']} poisoned of at least {needed} hospitals, "
                f"{len(cell.sites)} train here; write fewer, or strategy: fedmedian"
            )
        if self.poison is None:
            return None
        if cell.dp is not None:
            return "poison: a hospital that misbehaves keeps no ledger; leave dp out"
        absent = sorted(set(self.poison.sites) - set(cell.sites))
        if cell.sites and absent:
            return f"poison.sites: {absent[0]} is none of the hospitals that train ({', '.join(cell.sites)})"
        return None
