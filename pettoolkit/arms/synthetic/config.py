"""Keys of ``arm: synthetic``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.generators import GeneratorKeys, Name
from pettoolkit.records import RunSpec


class SyntheticKeys(GeneratorKeys):
    """Each hospital fits a generator; one model is trained on the pooled synthetic rows."""

    arm: Literal["synthetic"]
    generator: Name = Field(
        default="gaussian_copula",
        description="SDV's gaussian_copula, ctgan, tvae; marginals by class (can have dp); dp_vae (only with dp).",
    )
    scope: Literal["per_hospital", "one_on_pooled"] = Field(
        default="per_hospital",
        description="One generator per hospital; or one on all raw records, which takes trust in the coordinator.",
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)

    def noises(self, target: str) -> tuple[str, ...]:
        """Who fits the generator makes the noise; ``downstream`` noise belongs to the coordinator's training."""
        return ("central",) if target == "downstream" or self.scope == "one_on_pooled" else self.noise_modes

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if self.scope == "one_on_pooled" and self.filter != "none":
            return "filter works inside a hospital; with scope: one_on_pooled the raw records have left (leave it out)"
        return super().refuse(cell) or self.refuse_generator(cell)
