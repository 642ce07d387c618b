"""Keys of ``arm: augmented``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.generators import GeneratorKeys, Name
from pettoolkit.arms.keys import Count
from pettoolkit.records import DpSpec, RunSpec

# own_weight of 3 was chosen on the PhysioNet data (six sites of 500 patients, five splits, mean-site AUROC): 1, 3 and 5
# give logistic regression .658, .680, .681, the MLP .674, .688, .688 and gradient boosting .678, .675, .677.


class AugmentedKeys(GeneratorKeys):
    """Each hospital trains on its own records and on the other hospitals' synthetic rows."""

    arm: Literal["augmented"]
    generator: Name = Field(default="marginals", description="Of the others' rows; see arm: synthetic.")
    scope: Literal["per_hospital"] = Field(default="per_hospital", description="One generator per hospital.")
    own_weight: Count = Field(
        default=3, description="How often a hospital's own rows come in its training, the others' coming once."
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)

    def unused(self, dp: DpSpec) -> tuple[str, ...]:
        """See :meth:`ArmKeys.unused`: training on own patients follows the rule, its rate too."""
        return ("epochs", "batch_size", "learning_rate")

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.sites and len(cell.sites) < 2:
            return "augmented needs at least two hospitals that train (one has no others' rows)"
        if cell.dp is not None and cell.dp.batch is not None:
            return (
                "dp.batch is not possible with augmented, whose budget is shared out for the full batch; leave it out"
            )
        return super().refuse(cell) or self.refuse_generator(cell)
