"""What is publicly known about a table: its columns, ranges and roles.

Nothing here is ever taken from private data: a range fitted on patients would leak and would break
differential privacy. A contract of grain ``hour`` describes one row per patient and hour; the
landmark (:mod:`pettoolkit.cohort.landmark`) turns it into a contract of grain ``row``, which is the
only form that the hospitals, the models, the generators and the attacks ever see.
"""

from __future__ import annotations

import hashlib
import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Kind = Literal["number", "binary", "category"]
Role = Literal["feature", "outcome", "patient_id", "site", "time", "unit", "date", "ignored"]
FeatureSet = Literal["compact", "full", "none"]
Missing = Literal["indicator", "zero", "never"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Frozen):
    """One column, as far as it is public.

    ``low`` and ``high`` are public bounds in ``unit`` (values are clipped to them); ``log`` scales the
    encoding logarithmically (``log x`` if ``low > 0``, else the signed ``sign(x) log(1 + |x|)``).
    ``features`` names the smallest feature set that has the column. ``missing`` says how a missing value
    is encoded: 0 with an indicator column, 0 alone, or ``never``: then a missing value is an error.
    ``summaries`` (grain ``hour``) are the further per-stay summaries that the ``full`` set gets beside
    the last value.
    """

    name: str
    kind: Kind = "number"
    role: Role = "feature"
    unit: str = ""
    low: float | None = None
    high: float | None = None
    log: bool = False
    integer: bool = False
    levels: tuple[str, ...] = ()
    missing: Missing = "indicator"
    features: FeatureSet = "compact"
    summaries: tuple[Literal["min", "max", "mean", "slope", "count"], ...] = ()
    quasi_identifier: bool = False
    sensitive: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Column:
        if self.role in ("feature", "outcome"):
            if self.kind == "number":
                if self.low is None or self.high is None:
                    raise ValueError(
                        f"column {self.name}: low and high must be filled in with public bounds "
                        "(never the minimum and maximum of the data: that would leak)"
                    )
                if not (math.isfinite(self.low) and math.isfinite(self.high)):
                    raise ValueError(
                        f"column {self.name}: low and high must be finite (got {self.low} and {self.high})"
                    )
                if not self.low < self.high:
                    raise ValueError(f"column {self.name}: low must be below high (got {self.low} and {self.high})")
                if self.integer and math.floor(self.high) <= math.ceil(self.low):
                    raise ValueError(
                        f"column {self.name}: integer: true needs two whole numbers between low and high "
                        f"(got {self.low} and {self.high})"
                    )
            if self.kind == "category" and len(self.levels) < 2:
                raise ValueError(f"column {self.name}: a category needs at least two public levels")
        return self


class DateSplit(_Frozen):
    """Train before ``cut`` and test from it, by a date column (grain ``row``)."""

    by: str
    cut: str


class Contract(_Frozen):
    """The public description of a table; see the module's text.

    ``prevalence`` is a published figure (it sets the initial bias of models), never the data's own.
    """

    name: str
    title: str = ""
    source: str = ""
    grain: Literal["hour", "row"] = "row"
    landmark_hours: int = Field(default=12, ge=1)
    columns: tuple[Column, ...]
    prevalence: float | None = Field(default=None, gt=0, lt=1)
    split: DateSplit | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Contract:
        names = [c.name for c in self.columns]
        twice = sorted({n for n in names if names.count(n) > 1})
        if twice:
            raise ValueError(f"columns listed twice: {', '.join(twice)}")
        outcomes = [c.name for c in self.columns if c.role == "outcome"]
        if len(outcomes) != 1:
            raise ValueError(f"exactly one column must have role outcome (got {', '.join(outcomes) or 'none'})")
        ids = [c.name for c in self.columns if c.role == "patient_id"]
        if len(ids) > 1:
            raise ValueError(f"at most one column may have role patient_id (got {', '.join(ids)})")
        if self.grain == "hour" and not ids:
            raise ValueError("grain hour needs a column with role patient_id")
        if self.split is not None and self.split.by not in names:
            raise ValueError(f"split.by: no column {self.split.by} in this contract")
        return self

    def column(self, name: str) -> Column:
        """The column of that name (KeyError otherwise)."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def named(self, role: Role) -> str | None:
        """Name of the column with that role, if there is one."""
        return next((c.name for c in self.columns if c.role == role), None)

    @property
    def outcome(self) -> Column:
        """The column to be predicted."""
        return next(c for c in self.columns if c.role == "outcome")

    @property
    def feature_columns(self) -> tuple[Column, ...]:
        """Columns that models may use, in contract order."""
        return tuple(c for c in self.columns if c.role == "feature" and c.features != "none")

    @property
    def quasi_identifiers(self) -> tuple[Column, ...]:
        """Columns that an outsider may know of a person."""
        return tuple(c for c in self.columns if c.quasi_identifier)

    def select(self, features: FeatureSet) -> Contract:
        """The same contract with only the columns that the feature set has (``compact`` or ``full``)."""
        kept = tuple(c for c in self.columns if c.role != "feature" or features == "full" or c.features == features)
        return self.model_copy(
            update={"columns": tuple(c for c in kept if not (c.role == "feature" and c.features == "none"))}
        )

    def digest(self) -> str:
        """SHA-256 (hex) of everything that can change a number; titles and sources do not count."""
        text = self.model_dump_json(exclude={"title", "source"})
        return hashlib.sha256(text.encode()).hexdigest()
