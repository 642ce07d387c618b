"""Keys of the arms whose hospitals fit a generator: which one, how faithful, and what is done with its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from pettoolkit.arms.keys import CentralTraining, Count, Flag
from pettoolkit.records import DpSpec, RunSpec
from pettoolkit.synthesis import protocol
from pettoolkit.synthesis.drawing import Balance
from pettoolkit.synthesis.protocol import Generator

LEARNING_RATES = {"logistic": 3e-3, "mlp": 3e-3, "gradient_boosting": 0.05}
"""Learning rate by model, on rows with synthetic ones among them."""

DIALS: Mapping[str, Mapping[str, str]] = {
    "ctgan": {"fit_epochs": "epochs"},
    "dp_vae": {},
    "gaussian_copula": {"smoothing": "smoothing"},
    "marginals": {"smoothing": "smoothing", "pairs": "pairs"},
    "tvae": {"fit_epochs": "epochs"},
}
"""Generator -> key of the experiment file -> the generator's own option: its fidelity dial."""

Name = Literal["gaussian_copula", "marginals", "ctgan", "tvae", "dp_vae"]
Share = Annotated[float, Field(strict=True, gt=0, lt=1)]


class BalanceKeys(BaseModel):
    """``balance: {column: sepsis, to: 0.2}`` adds synthetic rows of a rare class or group."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = Field(description="The outcome or a feature.")
    to: Share = Field(description="Share of the table's rows that the group shall have.")
    level: str | int | None = Field(default=None, description="Class or level; the rarest if not written.")
    at_least: float | None = Field(default=None, description="For a number: its group are rows from this value on.")


class GeneratorKeys(CentralTraining):
    """Keys of every arm with a generator."""

    generator: Name
    rows: Count | None = Field(
        default=None, description="Synthetic rows per hospital; null makes as many as it has training patients."
    )
    fit_epochs: Count | None = Field(
        default=None,
        description="ctgan, tvae: passes over a hospital's rows (10 if not written); more is more faithful.",
    )
    smoothing: Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="marginals (100 if not written), gaussian_copula (0): pseudo-patients in whom columns hang "
        "together as in all patients, or not at all; fewer is more faithful. Without dp.",
    )
    pairs: Flag | None = Field(
        default=None, description="marginals without dp: whether columns hang together by pair tables (true)."
    )
    balance: BalanceKeys | None = Field(
        default=None, description="Add synthetic rows of a rare class or group until it has the share `to`."
    )

    filter: Literal["none", "exact", "close"] = Field(
        default="none",
        description="Rows held back in the hospital: repeats of a patient, or also rows too close to one. Without dp.",
    )

    learning_rates: ClassVar[Mapping[str, float]] = LEARNING_RATES

    samples: ClassVar[bool] = False

    def unused(self, dp: DpSpec) -> tuple[str, ...]:
        """See :meth:`ArmKeys.unused`: on rows that have the guarantee already, models are trained as without DP."""
        return super().unused(dp) if dp.target == "downstream" else ()

    def refuse_generator(self, cell: RunSpec) -> str | None:
        """Why the generator can't be had in this cell, or None if it can."""
        private = cell.dp is not None and cell.dp.target == "patients"
        if private and self.generator not in protocol.WITH_DP:
            able = " or ".join(f"generator: {name}" for name in sorted(protocol.WITH_DP, reverse=True))
            return (
                f"generator {self.generator} has no differential privacy; write {able} "
                "(or dp.target: downstream, which gives patients no guarantee)"
            )
        if not private and self.generator in protocol.ONLY_DP:
            return f"generator {self.generator} exists with differential privacy only; write dp, or generator: tvae"
        if private and self.filter != "none":
            return (
                "filter: reads real rows to decide which synthetic ones stay inside, which no epsilon covers; "
                "leave filter out, or dp"
            )
        for key in ("fit_epochs", "smoothing", "pairs"):
            if getattr(self, key) is None:
                continue
            if key not in DIALS[self.generator]:
                owners = " or ".join(name for name, dials in DIALS.items() if key in dials)
                return f"{key} belongs to generator {owners}, not to {self.generator}; leave it out"
            if private:
                return (
                    f"{key} is a dial for generators without dp, whose noise sets the fidelity; leave one of them out"
                )
        return None


def generator_of(options: Mapping[str, Any]) -> Generator:
    """A fresh generator as a run's options want it."""
    name = str(options["generator"])
    dials = DIALS.get(name, {})
    wanted = {own: options[key] for key, own in dials.items() if options.get(key) is not None}
    return protocol.create(name, **wanted)


def balance_of(options: Mapping[str, Any]) -> Balance | None:
    """The balance that a run's options want."""
    written = options.get("balance")
    return None if written is None else Balance(**written)
