"""Keys of ``arm: augmented``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.keys import CentralTraining, Count
from pettoolkit.records import RunSpec

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model, on own and synthetic rows."""

# own_weight of 3 was chosen on the PhysioNet data (six sites of 500 patients, five splits, mean-site AUROC): 1, 3 and 5
# give logistic regression .658, .680, .681, the MLP .674, .688, .688 and gradient boosting .678, .675, .677.


class AugmentedKeys(CentralTraining):
    """Each hospital trains on its own records and on the other hospitals' synthetic rows."""

    arm: Literal["augmented"]
    generator: Literal["gaussian_copula", "marginals"] = Field(
        default="marginals", description="Of the others' rows; see arm: synthetic."
    )
    scope: Literal["per_hospital"] = Field(default="per_hospital", description="One generator per hospital.")
    rows: Count | None = Field(
        default=None, description="Synthetic rows per hospital; null makes as many as it has training patients."
    )
    own_weight: Count = Field(
        default=3, description="How often a hospital's own rows come in its training, the others' coming once."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)
    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.dp is not None:
            return (
                "augmented has no differential privacy: its patients would pay for generator and training together; "
                "write arm: synthetic with generator: marginals, or arm: local"
            )
        if cell.sites and len(cell.sites) < 2:
            return "augmented needs at least two hospitals that train (one has no others' rows)"
        return super().refuse(cell)
