"""What every arm's keys in an experiment file have in common.

An arm's ``config.py`` holds one class of keys. It resolves what was not written (:meth:`ArmKeys.options`)
and says in one line why a cell can't exist (:meth:`ArmKeys.refuse`), so that a file is judged before
anything runs. Keys that are ``None`` by default depend on other keys or on the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.records import DpSpec, Json, ModelSpec, RunSpec

Count = Annotated[int, Field(strict=True, ge=1)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(strict=True, ge=0, lt=1)]
Flag = Annotated[bool, Field(strict=True)]


BATCH = 256
"""Rows per step of training in one place."""

DP_MODELS = ("logistic", "mlp")
"""Models whose training can be private itself."""


SUM_OF_ALL = "the hospitals decrypt a sum only if each of them is in it"
"""Why encrypted sums can't go on without a hospital: a sum of fewer would say more of those who are left."""


class ArmKeys(BaseModel):
    """One entry of ``arms:``; subclasses add ``arm`` (a literal, the tag) and their own keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: ClassVar[tuple[str, ...]] = ("logistic", "mlp")
    """Models that this technology can train."""

    noise_modes: ClassVar[tuple[str, ...]]
    """Who may add the noise under DP; the first is taken where ``dp.noise`` is not written."""

    samples: ClassVar[bool] = True
    """Whether DP training takes gradients, of which ``dp.batch`` can make Poisson batches."""

    partners: ClassVar[str] = ""
    """Why a hospital can't be dropped in the middle of a run; empty where the others can go on without it."""

    @property
    def name(self) -> str:
        """The arm, as in ``arm: pooled``."""
        return str(getattr(self, "arm"))  # noqa: B009 - each subclass declares it as its own literal

    def noises(self, target: str) -> tuple[str, ...]:
        """Noise modes that are possible for a ``dp.target``, the default first."""
        return self.noise_modes

    def unused(self, dp: DpSpec) -> tuple[str, ...]:
        """Keys that training under this budget would not look at: writing them is refused, not ignored."""
        return ()

    def options(self, model: ModelSpec, dp: DpSpec | None) -> dict[str, Json]:
        """All keys but the tag, resolved for this model and budget; they go into ``RunSpec.options``."""
        options: dict[str, Json] = self.model_dump(exclude={"arm"})
        return options

    def refuse(self, cell: RunSpec) -> str | None:
        """Why this cell can't exist (one line that names the way out), or None if it can.

        ``cell.sites`` is empty while the hospitals are not known yet; rules that count them then wait.
        """
        if cell.dp is None:
            return None
        if cell.model.name not in DP_MODELS and not (self.name == "synthetic" and cell.dp.target == "patients"):
            return (
                f"{cell.model.name} can't be trained with differential privacy here; write model: logistic or mlp "
                "(or arm: synthetic with generator: marginals, whose rows have the guarantee)"
            )
        if cell.dp.target == "downstream" and self.name != "synthetic":
            return f"dp.target: downstream is only for arm: synthetic ({self.name} reads the patients themselves)"
        allowed = self.noises(cell.dp.target)
        if cell.dp.noise not in allowed:
            return f"dp.noise {cell.dp.noise} is not possible with arm {self.name}; write noise: {' or '.join(allowed)}"
        if cell.dp.batch is not None and not self.samples and cell.dp.target == "patients":
            return f"dp.batch: {self.name} answers from all patients, not from gradients of batches; leave it out"
        written = [k for k in self.unused(cell.dp) if getattr(self, k) is not None]
        if written:
            return (
                f"{', '.join(written)}: differential privacy does not use {'it' if len(written) == 1 else 'them'} here "
                "(its steps follow from the budget, see docs/privacy.md); leave out what is not used, or dp"
            )
        return None

    def refuse_drop(self, cell: RunSpec) -> str | None:
        """Why ``faults.on_failure: drop`` would break what this technology promises, or None if it would not."""
        if cell.faults.get("on_failure") != "drop":
            return None
        why = self.partners
        if cell.options.get("scope") == "secure_sum":
            why = SUM_OF_ALL
        if not why and cell.dp is not None and cell.dp.noise == "shared":
            why = "a hospital that is dropped takes its part of the shared noise with it"
        if not why and cell.dp is not None and cell.dp.noise == "local":
            why = "the ledger of a hospital that is dropped can't be read, and the guarantee is stated from all ledgers"
        if not why:
            return None
        return f"faults.on_failure: drop is not possible with arm {self.name}: {why}; write on_failure: fail"

    def refuse_model(self, cell: RunSpec) -> str | None:
        """Why this technology can't train the cell's model, or None if it can."""
        if cell.model.name in self.models:
            return None
        return (
            f"{cell.model.name} is not available under this technology ({self.name}): "
            f"write model: {' or '.join(self.models)}, or one of the arms that train where rows are "
            "(local, pooled, anonymised, synthetic, augmented)"
        )


class CentralTraining(ArmKeys):
    """Keys of training in one place; the epoch that validation patients like best is kept (under DP the last)."""

    epochs: Count | None = Field(
        default=None,
        description="Most passes over the rows; if not written 40 (more for few rows), or 200 trees.",
    )
    batch_size: Count | None = Field(
        default=None, description=f"Rows per step, {BATCH} if not written; gradient_boosting takes all rows."
    )
    learning_rate: Positive | None = Field(default=None, description="Of Adam; depends on the model if not written.")

    models: ClassVar[tuple[str, ...]] = ("logistic", "mlp", "gradient_boosting")
    learning_rates: ClassVar[Mapping[str, float]]
    """Default learning rate by model."""

    def unused(self, dp: DpSpec) -> tuple[str, ...]:
        """See :meth:`ArmKeys.unused`."""
        return ("epochs", "batch_size")

    def options(self, model: ModelSpec, dp: DpSpec | None) -> dict[str, Json]:
        """See :meth:`ArmKeys.options`; under DP an unwritten learning rate is left to the rule for DP training."""
        options = super().options(model, dp)
        options["batch_size"] = self.batch_size or BATCH
        if self.learning_rate is None and dp is None:
            options["learning_rate"] = self.learning_rates[model.name]
        return options
