"""Keys of ``arm: encrypted_statistics``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.encrypted import EncryptedKeys
from pettoolkit.arms.keys import Count, Positive
from pettoolkit.records import DpSpec, Json, ModelSpec, RunSpec

ROUNDS = 6
"""Newton steps: on all data tried, the weights stood still to 1e-5 after five."""

DP_ROUNDS = 2
"""With dp; each round more makes every one noisier."""
CLIP = 3.5
"""About the norm of most rows of simulated hospitals: clipping much lower makes probabilities wrong, not ranks."""


class EncryptedStatisticsKeys(EncryptedKeys):
    """Regression from encrypted sums over all hospitals: the same numbers as on pooled records."""

    arm: Literal["encrypted_statistics"]
    method: Literal["newton", "one_shot"] = Field(
        default="newton",
        description="newton: ridge logistic regression, one sum a round. one_shot: ridge linear regression, one sum.",
    )
    rounds: Count | None = Field(default=None, description=f"Of newton; {ROUNDS} if not written, {DP_ROUNDS} with dp.")
    ridge: Positive = Field(default=1.0, description="Penalty ridge/2 |w|^2 on the summed loss; not on the intercept.")
    clip: Positive | None = Field(
        default=None,
        description=f"dp: largest L2 norm of a patient's encoded row, its leading 1 included; {CLIP} if not written.",
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("shared",)
    samples: ClassVar[bool] = False

    def options(self, model: ModelSpec, dp: DpSpec | None) -> dict[str, Json]:
        """See :meth:`ArmKeys.options`."""
        options = super().options(model, dp)
        options["rounds"] = 1 if self.method == "one_shot" else self.rounds or (ROUNDS if dp is None else DP_ROUNDS)
        if dp is not None:
            options["clip"] = self.clip or CLIP
        return options

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.model.name != "logistic":
            return (
                f"encrypted_statistics fits a regression, not {cell.model.name}; write model: logistic, "
                "or arm: encrypted_aggregation"
            )
        if self.clip is not None and cell.dp is None:
            return "clip belongs to differential privacy; write dp, or leave clip out"
        if self.method == "one_shot" and self.rounds not in (None, 1):
            return f"rounds: one_shot takes one (got {self.rounds}); write method: newton for more"
        return self.too_few(cell) or super().refuse(cell)
