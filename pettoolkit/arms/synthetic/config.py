"""Keys of ``arm: synthetic``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from pettoolkit.arms.encrypted import FEWEST
from pettoolkit.arms.generators import GeneratorKeys, Name
from pettoolkit.records import RunSpec


class SyntheticKeys(GeneratorKeys):
    """Each hospital fits a generator; one model is trained on the pooled synthetic rows."""

    arm: Literal["synthetic"]
    generator: Name = Field(
        default="gaussian_copula",
        description="SDV's gaussian_copula, ctgan, tvae; marginals by class (can have dp); dp_vae (only with dp).",
    )
    scope: Literal["per_hospital", "one_on_pooled", "secure_sum"] = Field(
        default="per_hospital",
        description="One generator per hospital; one on all raw records, which takes trust in the coordinator; or "
        "one on sums under encryption (marginals only).",
    )

    noise_modes: ClassVar[tuple[str, ...]] = ("local",)

    def noises(self, target: str) -> tuple[str, ...]:
        """Who fits the generator makes the noise; ``downstream`` noise belongs to the coordinator's training."""
        if target == "downstream":
            return ("central",)
        return {"one_on_pooled": ("central",), "secure_sum": ("shared",)}.get(self.scope, self.noise_modes)

    def refuse(self, cell: RunSpec) -> str | None:
        """See :meth:`ArmKeys.refuse`."""
        if self.scope != "per_hospital" and self.filter != "none":
            return f"filter works on one hospital's rows; leave it out with scope: {self.scope}"
        if self.scope == "secure_sum":
            if self.generator != "marginals" or self.smoothing is not None or self.pairs is not None:
                return "scope: secure_sum sums the counts of generator: marginals, and has no smoothing or pairs to set"
            if cell.sites and len(cell.sites) < FEWEST:
                return f"scope: secure_sum hides nothing among {len(cell.sites)} hospitals (add hospitals)"
        return super().refuse(cell) or self.refuse_generator(cell)
