"""Keys of ``arm: anonymised``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.keys import CentralTraining
from pettoolkit.records import RunSpec

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model, on the pooled anonymised rows."""


class AnonymisedKeys(CentralTraining):
    """Each hospital makes its records k-anonymous; one model is trained on all of them."""

    arm: Literal["anonymised"]
    k: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=5, description="Each patient looks like at least k - 1 others of the same hospital."
    )
    scope: Literal["quasi_identifiers", "all"] = Field(
        default="quasi_identifiers",
        description="Which columns are generalised: the contract's quasi-identifiers, or all features.",
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)
    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.dp is not None:
            return (
                "k-anonymity has no noise that epsilon could measure: anonymised can't have dp; "
                "write arm: synthetic with generator: marginals, or leave dp out"
            )
        return super().refuse(cell)
