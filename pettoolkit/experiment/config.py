"""The experiment file, typed: one class per section, defaults included.

Reading it from disk, with findings as ``file:line: field: message``, is in
:mod:`pettoolkit.experiment.load`; what becomes of it in :mod:`pettoolkit.experiment.matrix`. Keys that
a matrix may vary are those of :class:`CellKeys`.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from pettoolkit.arms.anonymised.config import AnonymisedKeys
from pettoolkit.arms.augmented.config import AugmentedKeys
from pettoolkit.arms.encrypted_aggregation.config import EncryptedAggregationKeys
from pettoolkit.arms.encrypted_records.config import EncryptedRecordsKeys
from pettoolkit.arms.encrypted_statistics.config import EncryptedStatisticsKeys
from pettoolkit.arms.federated.config import FederatedKeys
from pettoolkit.arms.keys import ArmKeys, Count, Positive
from pettoolkit.arms.local.config import LocalKeys
from pettoolkit.arms.pooled.config import PooledKeys
from pettoolkit.arms.synthetic.config import SyntheticKeys
from pettoolkit.cohort.yamlfile import Document
from pettoolkit.records import ModelSpec

AnyArm = (
    LocalKeys
    | PooledKeys
    | FederatedKeys
    | EncryptedAggregationKeys
    | EncryptedStatisticsKeys
    | EncryptedRecordsKeys
    | AnonymisedKeys
    | SyntheticKeys
    | AugmentedKeys
)
"""The arms that exist, told apart by ``arm``; a new technology adds its keys here."""

EACH = "each"
"""``evaluation.unseen: each`` leaves each hospital out in turn."""

HIDDEN = 32
"""Units of the MLP's hidden layer, if not written."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]
Text = Annotated[str, Field(min_length=1)]


class Keys(BaseModel):
    """Base of all sections: frozen, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _model(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _unseen(value: Any) -> Any:
    if isinstance(value, str) and value != EACH:
        raise ValueError(f"must be a list of hospitals, or the word {EACH} (got {value})")
    return value


def fan_out(entry: Any) -> Any:
    """One written arm as a list of arms: a key with a list of values stands for one arm per value."""
    if not isinstance(entry, Mapping):
        return entry if isinstance(entry, (list, tuple)) else [entry]
    names = [name for name, value in entry.items() if isinstance(value, (list, tuple))]
    for name in names:
        if not entry[name] or name == "arm":
            raise ValueError(f"{name}: must be one value" + ("" if name == "arm" else ", or a list with at least one"))
    return [
        {**entry, **dict(zip(names, values, strict=True))}
        for values in itertools.product(*(entry[name] for name in names))
    ]


class SitesKeys(Keys):
    """Where the hospitals' data come from."""

    source: Literal["simulated", "physionet2019", "tables"] = Field(
        default="simulated", description="Drawn from profiles, the PhysioNet/CinC 2019 data, or your own tables."
    )
    path: Text | None = Field(
        default=None,
        description="Folder or file, seen from the current folder. Not needed for simulated (the packaged profiles) "
        "and physionet2019 (data/physionet2019).",
    )
    partition: Literal["hospital", "unit"] = Field(
        default="hospital", description="physionet2019: two hospitals, or six by hospital and ICU unit."
    )
    contract: Text | None = Field(
        default=None,
        description="YAML file that describes the columns; else contract.yaml beside the tables, or the packaged one.",
    )
    include: tuple[Text, ...] = Field(default=(), description="Only these hospitals; empty takes all.")
    stays: Count | None = Field(
        default=None, description="simulated: stays drawn per hospital; otherwise: at most so many of its rows."
    )

    def folder(self) -> Path:
        """Where to look: what is written, else what belongs to the source."""
        if self.path is not None:
            return Path(self.path)
        return Path("data/physionet2019") if self.source == "physionet2019" else packaged("sites")


class ModelKeys(Keys):
    """``logistic``, ``mlp``, ``gradient_boosting``, or ``{name: mlp, hidden: 32}``."""

    name: Literal["logistic", "mlp", "gradient_boosting"]
    hidden: Count | None = Field(default=None, description=f"mlp: units of the hidden layer; {HIDDEN} if not written.")

    def spec(self) -> ModelSpec:
        """The model, resolved."""
        return ModelSpec("mlp", self.hidden or HIDDEN) if self.name == "mlp" else ModelSpec(self.name)


class DpKeys(Keys):
    """Differential privacy for the patient; epsilon is the budget of the whole run."""

    epsilon: Positive | None = Field(default=None, description="null means no differential privacy.")
    delta: Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        default=1e-5, description="Must be below 1 / training patients of each hospital."
    )
    noise: Literal["local", "shared", "central"] | None = Field(
        default=None, description="Who adds it; what the arm's trust allows if not written."
    )
    honest_sites: Count | None = Field(
        default=None, description="shared noise: hospitals trusted to add their part; all of them if not written."
    )
    gradients: Literal["auto", "vectorised", "opacus"] = Field(
        default="auto", description="Who clips per patient; the models are the same."
    )
    batch: Count | None = Field(default=None, description="Expected Poisson batch; null takes the full batch.")
    target: Literal["patients", "downstream"] = Field(
        default="patients",
        description="synthetic: protect patients in the generator, or (no guarantee for patients) the later training.",
    )


class EvaluationKeys(Keys):
    """Which hospitals train, which are only tested on, and with how many patients."""

    unseen: Annotated[Literal["each"] | tuple[Text, ...], BeforeValidator(_unseen)] = Field(
        default=(), description="Hospitals that never train and are tested on; `each` leaves each one out in turn."
    )
    train_sites: Count | None = Field(
        default=None, description="So many of the other hospitals train, drawn by the seed (more include fewer)."
    )
    total_patients: Count | None = Field(
        default=None,
        description="Training patients in all, shared out evenly; null takes all patients. Validation and test "
        "patients are never cut: every size is judged on the same ones.",
    )


class RiskKeys(Keys):
    """What measured risk is compared with."""

    thresholds: dict[Text, Annotated[float, Field(strict=True, gt=0, lt=1)]] = Field(
        default={},
        description="By measure (excess: all that are not named), instead of the documented ones (docs/risk.md).",
    )


class FaultKeys(Keys):
    """What happens when a hospital dies, hangs or answers something unusable."""

    on_failure: Literal["fail", "drop"] = Field(
        default="fail",
        description="Fail the cell; or drop: go on without the hospital and say so (not with dp or encrypted arms).",
    )
    min_sites: Count | None = Field(
        default=None, description="drop: fewest training hospitals to go on with; null: all but one."
    )
    round_timeout: Positive = Field(default=600.0, description="Seconds that a hospital may take to answer.")


def _address(text: str) -> str:
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s]+", text):
        raise ValueError(f"must be an address like ada@example.org (got {text})")
    return text


class ResponsibleKeys(Keys):
    """Who answers for a released table."""

    name: str | None = None
    email: Annotated[str, AfterValidator(_address)] | None = None


class TrackingKeys(Keys):
    """Where MLflow keeps the results."""

    dir: Text = "mlruns"


class CellKeys(Keys):
    """The keys that a matrix may vary; arms vary by a list in their own entry."""

    features: Literal["compact", "full"] = "compact"
    model: Annotated[ModelKeys, BeforeValidator(_model)] = ModelKeys(name="logistic")
    dp: DpKeys | None = None
    evaluation: EvaluationKeys = EvaluationKeys()


class ExperimentConfig(CellKeys):
    """One experiment file."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=80)] = Field(
        description="Letters, digits, dot, dash and underscore; the experiment's name in MLflow."
    )
    task: Literal["sepsis-landmark", "table-outcome"] = "sepsis-landmark"
    sites: SitesKeys = SitesKeys()
    arms: tuple[
        Annotated[
            tuple[Annotated[AnyArm, Field(discriminator="arm")], ...],
            BeforeValidator(fan_out),
        ],
        ...,
    ] = Field(min_length=1, description="The technologies; a list as a key's value makes one arm of each value.")
    matrix: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default={}, description="Dotted key of this file to a list of values; all combinations are run."
    )
    exclude: tuple[dict[str, Any], ...] = Field(
        default=(), description="Cells to leave out: each entry names values, and a cell that has all of them is out."
    )
    seeds: tuple[Seed, ...] = Field(default=(0,), min_length=1)
    attacks: Literal["none", "quick", "full"] = Field(
        default="none", description="Measure the risk by attacking what each cell gives away: quickly, or fully."
    )
    risk: RiskKeys = RiskKeys()
    faults: FaultKeys = FaultKeys()
    responsible: ResponsibleKeys = ResponsibleKeys()
    engine: Literal["inline", "ray", "flower"] = "ray"
    deployment: Text | None = Field(
        default=None, description="engine: flower: the coordinator's folder, made by `pettoolkit deploy init`."
    )
    tracking: TrackingKeys = TrackingKeys()

    _document: Document | None = PrivateAttr(default=None)

    @property
    def written_arms(self) -> tuple[tuple[int, ArmKeys], ...]:
        """Each arm with the position of the entry that it was written in."""
        return tuple((i, arm) for i, entry in enumerate(self.arms) for arm in entry)

    def finding(self, loc: tuple[str | int, ...], message: str) -> str:
        """``file:line: field: message``; without a file ``field: message``, and ``--set`` for what came from there."""
        return located(self._document, loc, message)

    def text(self) -> str:
        """Write the file again as YAML, with the changes of ``--set`` in it; empty without a file."""
        return yaml.safe_dump(self._document.data, sort_keys=False, allow_unicode=True) if self._document else ""

    def read_from(self, document: Document) -> ExperimentConfig:
        """The same configuration, knowing the file for what it finds later."""
        copy = self.model_copy()
        copy._document = document
        return copy


def located(document: Document | None, loc: tuple[str | int, ...], message: str) -> str:
    """See :meth:`ExperimentConfig.finding`."""
    dotted = ".".join(str(step) for step in loc)
    said = f"{dotted}: {message}" if dotted else message
    if document is None:
        return said
    if any(loc[: len(o)] == o for o in document.overridden):
        return f"--set: {said}"
    return f"{document.path}:{document.line(loc)}: {said}"


def packaged(name: str) -> Path:
    """A folder that comes with the package: inside it once installed, beside it in a clone."""
    package = Path(__file__).resolve().parents[1]
    return package / name if (package / name).is_dir() else package.parent / name
