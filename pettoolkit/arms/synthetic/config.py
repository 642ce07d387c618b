"""Keys of ``arm: synthetic``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.keys import CentralTraining, Count
from pettoolkit.records import RunSpec

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model, on the pooled synthetic rows."""

DP_GENERATORS = ("marginals",)
"""Generators that can give a guarantee themselves."""


class SyntheticKeys(CentralTraining):
    """Each hospital fits a generator; one model is trained on the pooled synthetic rows."""

    arm: Literal["synthetic"]
    generator: Literal["gaussian_copula", "marginals"] = Field(
        default="gaussian_copula", description="SDV's Gaussian copula, or class-conditional marginals (can have DP)."
    )
    scope: Literal["per_hospital"] = Field(default="per_hospital", description="One generator per hospital.")
    rows: Count | None = Field(
        default=None, description="Synthetic rows per hospital; null makes as many as it has training patients."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)
    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES

    def noises(self, target: str) -> tuple[str, ...]:
        """Each hospital's generator is noisy; ``downstream`` noise belongs to the coordinator's training."""
        return ("central",) if target == "downstream" else self.noise_modes

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        reason = super().refuse(cell)
        private = cell.dp is not None and cell.dp.target == "patients"
        if reason is None and private and self.generator not in DP_GENERATORS:
            return (
                f"generator {self.generator} has no differential privacy; write generator: marginals "
                "(or dp.target: downstream, which gives patients no guarantee)"
            )
        return reason
