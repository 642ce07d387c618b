"""Simulated hospitals: hourly ICU stays with the columns of the sepsis contract, drawn from published figures.

A stay is drawn in this order: the patient's latent scores (Gaussian copula on published rank correlations), the
risk and the onset of sepsis (:mod:`pettoolkit.cohort.risk`), hourly scores around the patient's level that drift
before the onset, values through published quantiles (:mod:`pettoolkit.cohort.marginals`), and
what of that is measured and how it is written down (:mod:`pettoolkit.cohort.measurement`). The landmark
(:mod:`pettoolkit.cohort.landmark`) then makes rows from them as it does from real stays.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from pettoolkit.cohort.marginals import GRID, correlate, figures, quantile_tables
from pettoolkit.cohort.measurement import MONITORED, Rows, measured, spoil
from pettoolkit.cohort.profiles import Mixup, Outlier, SiteProfile, Units, load_profiles
from pettoolkit.cohort.risk import Patients, draw_patients
from pettoolkit.errors import BadInput

__all__ = ["Mixup", "Outlier", "SiteProfile", "Units", "load_profiles", "simulate_hours", "simulated_sites"]

Bools = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int_]

PATIENTS_PER_HOSPITAL = 1_000_000
"""Patient ids of a hospital start at its number times this."""

_STATIC = ("Age", "Gender", "HospAdmTime")
_LEVEL_BEDSIDE, _LEVEL_LABORATORY = 0.65, 0.8
"""Share of the variance that lies between patients; the rest is noise from hour to hour."""
_MEMORY = 0.8  # correlation of that noise from one hour to the next
_DRIFT_HOURS = 12  # values begin to move that long before the label turns positive
_DRIFT = 0.6  # share of the published difference between septic and other hours that is drift, not the patients' level
_DECIMALS = {"pH": 2, "FiO2": 2, "Temp": 2, "TroponinI": 2, "Creatinine": 2, "HospAdmTime": 2, "MAP": 2, "Gender": 0}


def simulated_sites(path: Path, seed: int = 0, stays: int | None = None) -> dict[str, pd.DataFrame]:
    """Hourly rows of each hospital that has a profile in a folder, by the hospital's name.

    Parameters
    ----------
    seed
        Part of the definition of the data; it is not the seed of a run.
    stays
        Stays per hospital, instead of each profile's own number.

    Raises
    ------
    BadInput
        See :func:`load_profiles`.
    """
    return {profile.name: simulate_hours(profile, seed, stays) for profile in load_profiles(path)}


def simulate_hours(profile: SiteProfile, seed: int, stays: int | None = None) -> pd.DataFrame:
    """Draw a hospital's stays.

    Returns
    -------
    DataFrame
        One row per patient and hour, in order, with the columns of ``contracts/sepsis_hourly.yaml`` in the
        contract's units; NaN where not measured. The same arguments give the same rows.

    Raises
    ------
    BadInput
        If ``stays`` is not between 1 and a million, or ``seed`` is negative.
    """
    n = profile.stays if stays is None else stays
    if not 1 <= n <= PATIENTS_PER_HOSPITAL:
        raise BadInput(f"hospital {profile.name}: stays: must be between 1 and {PATIENTS_PER_HOSPITAL} (got {n})")
    if seed < 0:
        raise BadInput(f"hospital {profile.name}: the seed of the simulation must not be negative (got {seed})")
    rng = np.random.default_rng([seed, profile.number])
    patients = draw_patients(profile, n, rng)
    stay = np.repeat(np.arange(n), patients.hours)
    starts = np.cumsum(patients.hours) - patients.hours
    hour = np.arange(len(stay)) - starts[stay]
    scores = _hourly_scores(profile, patients, starts, stay, hour, rng)
    values = _values(profile, scores, measured(profile, patients, Rows(stay, hour), rng), stay, starts)
    spoil(values, profile, rng)
    return pd.DataFrame(
        {
            "patient_id": (profile.number * PATIENTS_PER_HOSPITAL + stay).astype(np.int64),
            **values,
            "Gender": values["Gender"].astype(np.int8),
            "Unit1": _unit(patients, stay, 0),
            "Unit2": _unit(patients, stay, 1),
            "ICULOS": (hour + 1).astype(np.int16),
            "SepsisLabel": (hour >= patients.onset[stay]).astype(np.int8),
        }
    )


def _hourly_scores(
    profile: SiteProfile, patients: Patients, starts: Ints, stay: Ints, hour: Ints, rng: np.random.Generator
) -> Floats32:
    """Standard normal scores, shape (N, V): the patient's level, noise with a memory, and the drift before onset."""
    base = figures(profile.base)
    level = np.array([_share(v) for v in base.variables])
    noise = correlate(rng.standard_normal((len(stay), len(level)), dtype=np.float32), profile.base)
    _remember(noise, starts, patients.hours)
    scores = noise * np.sqrt(1 - level).astype(np.float32)
    scores += (patients.scores * np.sqrt(level)).astype(np.float32)[stay]
    ramp = np.clip(1 - (patients.onset[stay] - hour) / _DRIFT_HOURS, 0, 1).astype(np.float32)
    moving = np.flatnonzero(ramp)
    drift = np.where(np.isin(base.variables, _STATIC), 0, _DRIFT * base.drift).astype(np.float32)
    scores[moving] += ramp[moving, None] * drift
    return np.asarray(scores, dtype=np.float32)


def _share(variable: str) -> float:
    if variable in _STATIC:
        return 1.0
    return _LEVEL_BEDSIDE if variable in MONITORED else _LEVEL_LABORATORY


def _remember(noise: Floats32, starts: Ints, hours: Ints) -> None:
    """Turn independent noise into a first-order autoregression within each stay, in place; variance stays 1."""
    fresh = np.float32(np.sqrt(1 - _MEMORY**2))
    longest_first = np.argsort(-hours, kind="stable")
    sorted_starts, sorted_hours = starts[longest_first], -hours[longest_first]
    for t in range(1, int(hours.max())):
        rows = sorted_starts[: np.searchsorted(sorted_hours, -t)] + t  # stays longer than t hours
        noise[rows] = np.float32(_MEMORY) * noise[rows - 1] + fresh * noise[rows]


def _values(profile: SiteProfile, scores: Floats32, seen: Bools, stay: Ints, starts: Ints) -> dict[str, Floats32]:
    base, tables = figures(profile.base), quantile_tables(profile.base)
    out: dict[str, Floats32] = {}
    for i, name in enumerate(base.variables):
        if name in _STATIC:
            once = _static(name, scores[starts, i], tables[i], float(base.mean[i]), profile)
            out[name] = once.astype(np.float32)[stay]
            continue
        column = np.full(len(stay), np.nan, dtype=np.float32)
        rows = np.flatnonzero(seen[:, i])
        drawn = np.interp(scores[rows, i], GRID, tables[i]) + profile.shifts.get(name, 0.0)
        column[rows] = np.round(drawn, _DECIMALS.get(name, 1))
        out[name] = column
    return out


def _static(
    name: str, scores: Floats32, table: npt.NDArray[np.float64], mean: float, profile: SiteProfile
) -> npt.NDArray[np.float64]:
    if name == "Gender":
        return (np.argsort(np.argsort(-scores)) < mean * len(scores)).astype(np.float64)
    drawn = np.interp(scores, GRID, table)
    decimals = 2 if profile.base == "A" or name != "Age" else 0  # B writes whole years
    return np.asarray(np.round(drawn, decimals))


def _unit(patients: Patients, stay: Ints, unit: int) -> Floats32:
    known = np.where(patients.unit == 2, np.nan, patients.unit == unit)
    return known.astype(np.float32)[stay]
