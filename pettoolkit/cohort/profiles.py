"""How a simulated hospital differs from the others: its size, its patients, its habits and its mistakes.

A profile is a YAML file that a person writes; :mod:`pettoolkit.cohort.simulator` draws the hospital's stays from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pettoolkit.cohort.marginals import Base, figures
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput

Laboratory = Literal[
    "blood_count", "blood_gas", "chemistry", "coagulation", "end_tidal_co2", "lactate", "liver", "minerals", "troponin"
]
Bedside = Literal["diastolic", "respiration", "saturation"]
PANELS: dict[Laboratory, tuple[str, ...]] = {
    "blood_count": ("Hct", "Hgb", "WBC", "Platelets"),
    "blood_gas": ("BaseExcess", "FiO2", "pH", "PaCO2", "SaO2"),
    "chemistry": ("HCO3", "BUN", "Chloride", "Creatinine", "Glucose", "Potassium"),
    "coagulation": ("PTT", "Fibrinogen"),
    "end_tidal_co2": ("EtCO2",),
    "lactate": ("Lactate",),
    "liver": ("AST", "Alkalinephos", "Bilirubin_total", "Bilirubin_direct"),
    "minerals": ("Calcium", "Magnesium", "Phosphate"),
    "troponin": ("TroponinI",),
}
"""Laboratory values that are drawn together."""
BEDSIDE: dict[Bedside, str] = {"diastolic": "DBP", "respiration": "Resp", "saturation": "O2Sat"}
"""Monitored values that a hospital may not record."""

Effect = Literal[
    "age",
    "glucose",
    "organs",
    "pressure",
    "respiration",
    "severity",
    "shock",
    "suspicion",
    "temperature",
    "white_count",
]
"""What raises the risk of sepsis; :data:`pettoolkit.cohort.risk.EFFECTS` says how much."""

Share = Annotated[float, Field(ge=0, le=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _measured(name: str) -> str:
    known = figures("A").variables
    if name not in known or name in ("Age", "Gender", "HospAdmTime"):
        raise ValueError(f"must be a measured column such as Temp or Calcium (got {name})")
    return name


class Mixup(_Frozen):
    """Some values of a column are written in another unit: ``value * factor + offset``."""

    column: str
    share: Share
    factor: Finite = 1.0
    offset: Finite = 0.0

    @model_validator(mode="after")
    def _consistent(self) -> Mixup:
        _measured(self.column)
        return self


class Outlier(_Frozen):
    """Some values of a column are nonsense, anywhere between ``low`` and ``high``."""

    column: str
    share: Share
    low: Finite
    high: Finite

    @model_validator(mode="after")
    def _consistent(self) -> Outlier:
        _measured(self.column)
        if self.low > self.high:
            raise ValueError(f"low must not be above high (got {self.low} and {self.high})")
        return self


class Units(_Frozen):
    """Shares of stays in the medical and in the surgical unit; the others' unit is not recorded."""

    medical: Share = 0.35
    surgical: Share = 0.35

    @model_validator(mode="after")
    def _consistent(self) -> Units:
        if self.medical + self.surgical > 1 + 1e-9:
            raise ValueError(f"medical and surgical must not exceed 1 together (got {self.medical + self.surgical:g})")
        return self


class SiteProfile(_Frozen):
    """One simulated hospital.

    ``number`` (unlike any other hospital's) starts its random numbers and its patient ids. ``base`` is the real
    hospital whose published figures it follows where nothing else is said. ``prevalence`` is the share of stays
    with sepsis; about seven tenths of them are still without a positive label at 12 hours. ``panels`` multiplies
    the odds that a panel is ever drawn for a patient (0: this hospital never measures it). ``shifts`` are added
    to values (contract's unit). ``effects`` multiplies what raises the risk here (1 where not said). ``habit`` is
    how strongly the staff's suspicion of infection shows in what they order: 1 as at the bases; at 0 it says nothing
    that a value is there; below 0 it speaks for a patient who is well.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    title: str = ""
    number: int = Field(ge=1, le=2000)
    base: Base
    stays: int = Field(ge=1, le=1_000_000)
    prevalence: float = Field(ge=0, le=0.5)
    units: Units = Units()
    panels: dict[Laboratory | Bedside, Annotated[float, Field(ge=0, le=100)]] = {}
    mixups: tuple[Mixup, ...] = ()
    outliers: tuple[Outlier, ...] = ()
    shifts: dict[str, Finite] = {}
    effects: dict[Effect, Annotated[float, Field(ge=-5, le=5)]] = {}
    habit: float = Field(default=1.0, ge=-3, le=3)

    @model_validator(mode="after")
    def _consistent(self) -> SiteProfile:
        for column in self.shifts:
            _measured(column)
        return self


def load_profiles(path: Path) -> tuple[SiteProfile, ...]:
    """Profiles of all ``*.yaml`` files directly in a folder (or of one file), in order of the file names.

    Raises
    ------
    BadInput
        With all findings of all files, ``file:line: field: message``; also if there is no profile, or two
        have the same name or number.
    """
    path = Path(path)
    if not path.exists():
        raise BadInput(f"{path}: there is no such folder of hospital profiles (sites.path)")
    sources = sorted(path.glob("*.yaml")) if path.is_dir() else [path]
    if not sources:
        raise BadInput(f"{path}: has no *.yaml file; a simulated hospital needs its profile there")
    profiles: list[SiteProfile] = []
    findings: list[str] = []
    for source in sources:
        try:
            profiles.append(parse(SiteProfile, source))
        except BadInput as error:
            findings += error.lines
    if not findings:
        findings = _clashes(profiles, sources)
    if findings:
        raise BadInput(findings)
    return tuple(profiles)


def _clashes(profiles: list[SiteProfile], sources: list[Path]) -> list[str]:
    findings: list[str] = []
    for field in ("name", "number"):
        first: dict[object, Path] = {}
        for profile, source in zip(profiles, sources, strict=True):
            value = getattr(profile, field)
            if value in first:
                findings.append(f"{source}: {field}: {value} is already the {field} of {first[value].name}")
            first.setdefault(value, source)
    return findings
