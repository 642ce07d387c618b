"""Keys of ``arm: encrypted_records``."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.encrypted import EncryptedKeys
from pettoolkit.arms.keys import Count, Positive
from pettoolkit.records import RunSpec

MOST_ROWS = 2048
"""More would take hours: an iteration's time grows with the rows."""


class EncryptedRecordsKeys(EncryptedKeys):
    """Logistic regression by gradient descent on encrypted rows; a fixed number of steps, no early stopping."""

    arm: Literal["encrypted_records"]
    rows: Annotated[int, Field(strict=True, ge=1, le=MOST_ROWS)] = Field(
        default=MOST_ROWS, description="Training rows of all hospitals together, drawn by the seed."
    )
    iterations: Count = Field(default=30, description="Steps of accelerated gradient descent; seconds each.")
    learning_rate: Positive = Field(default=1.5, description="Factor of the mean gradient; 2 is near divergence.")

    noise_modes: ClassVar[tuple[str, ...]] = ("shared",)

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if cell.dp is not None:
            return (
                "differential privacy is not possible with encrypted_records: nobody could clip and add noise to "
                "gradients under encryption; write arm: encrypted_statistics, or leave dp out"
            )
        if cell.model.name != "logistic":
            return (
                f"encrypted_records trains logistic regression only, not {cell.model.name}; write model: logistic, "
                "or arm: encrypted_aggregation"
            )
        return self.too_few(cell) or super().refuse(cell)
