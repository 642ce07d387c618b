"""What a simulated hospital measures, for whom and when, and how it is written down wrongly.

A value is missing because nobody asked for it, and whom the staff ask about depends on how sick and how suspect the
patient looks to them. Each panel of laboratory values is ordered for some patients only; for those it is drawn at
least once, so the published share of patients never measured is met exactly in expectation. Further draws come
at the rate that leads to the published share of hours missing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from pettoolkit.cohort.marginals import figures
from pettoolkit.cohort.profiles import BEDSIDE, PANELS, Laboratory, SiteProfile
from pettoolkit.cohort.risk import Patients

Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]

MONITOR = ("HR", "O2Sat", "SBP", "MAP", "Resp")
MONITORED = (*MONITOR, "Temp", "DBP")


class _Habit(NamedTuple):
    """How a panel is ordered.

    ``suspicion``, ``severity``, ``routine`` and ``gas`` are correlations of its order with latent quantities (routine:
    the patient's share in daily rounds; gas: ventilation); ``first`` is the hourly chance of the first draw.
    """

    suspicion: float
    severity: float
    routine: float
    gas: float
    first: float


HABITS: dict[Laboratory, _Habit] = {
    "blood_count": _Habit(0.39, 0.10, 0.75, 0.0, 0.09),
    "blood_gas": _Habit(0.52, 0.15, 0.0, 0.80, 0.18),
    "chemistry": _Habit(0.45, 0.10, 0.75, 0.0, 0.11),
    "coagulation": _Habit(0.45, 0.15, 0.25, 0.10, 0.11),
    "end_tidal_co2": _Habit(0.33, 0.10, 0.0, 0.40, 0.10),
    "lactate": _Habit(0.65, 0.20, 0.0, 0.70, 0.09),
    "liver": _Habit(0.52, 0.15, 0.25, 0.0, 0.08),
    "minerals": _Habit(0.45, 0.10, 0.65, 0.0, 0.06),
    "troponin": _Habit(0.07, 0.10, 0.05, 0.0, 0.15),
}
_OWN = 0.25  # a variable's own share in whether it is ordered with its panel
_HASTE = 0.5  # the first draw of a patient one SD more suspect comes exp(.5) times as soon
_REPEATS = 0.25  # ... and further draws exp(.25) times as often
_FIRST_HOUR_GAP = 0.75  # the monitor is not yet connected in that share of first hours
_GAP = 0.7  # share of the monitor's missing hours in which all its values are missing together


def measured(profile: SiteProfile, patients: Patients, stay: Ints, hour: Ints, rng: np.random.Generator) -> Bools:
    """Which values exist.

    Parameters
    ----------
    stay, hour
        Index of the patient and hour since the start of each row, shape (N,).

    Returns
    -------
    ndarray of bool, shape (N, V)
        In the order of the figures' variables; Age, Gender and HospAdmTime are always there.
    """
    base = figures(profile.base)
    out = np.ones((len(stay), len(base.variables)), dtype=np.bool_)
    _bedside(out, profile, stay, hour, rng)
    latent = rng.standard_normal((len(patients.hours), 2))  # routine, gas
    for panel, names in PANELS.items():
        _panel(out, profile, panel, names, patients, latent, stay, hour, rng)
    return out


def _bedside(out: Bools, profile: SiteProfile, stay: Ints, hour: Ints, rng: np.random.Generator) -> None:
    base = figures(profile.base)
    factors = {BEDSIDE[k]: v for k, v in profile.panels.items() if k in BEDSIDE}
    rates = {v: _rate(base.row_missing[base.index(v)], base.never_measured[base.index(v)]) for v in MONITORED}
    gap = _GAP * (1 - max(rates.values()))
    first = hour == 0
    later = max(gap - float(first.mean()) * (_FIRST_HOUR_GAP - gap), 0.0)
    connected = rng.random(len(hour)) >= np.where(first, _FIRST_HOUR_GAP, later)
    for name, rate in rates.items():
        i = base.index(name)
        ever = rng.random(int(stay[-1]) + 1) < _odds_times(1 - base.never_measured[i], factors.get(name, 1.0))
        out[:, i] = connected & ever[stay] & (rng.random(len(hour), dtype=np.float32) < rate / (1 - gap))


def _rate(row_missing: float, never: float) -> float:
    return (1 - row_missing) / (1 - never)


def _panel(
    out: Bools,
    profile: SiteProfile,
    panel: Laboratory,
    names: tuple[str, ...],
    patients: Patients,
    latent: Floats,
    stay: Ints,
    hour: Ints,
    rng: np.random.Generator,
) -> None:
    base, habit, n = figures(profile.base), HABITS[panel], len(patients.hours)
    suspicion = profile.habit * habit.suspicion
    known = np.array([suspicion, habit.severity, habit.routine, habit.gas])
    known *= min(1.0, 0.98 / float(np.linalg.norm(known)))
    order = np.column_stack([patients.suspicion, patients.severity, latent]) @ known
    order += np.sqrt(1 - known @ known) * rng.standard_normal(n)

    chance = 1 - (1 - habit.first) ** np.exp(_HASTE * profile.habit * patients.suspicion)
    first = np.minimum(rng.geometric(np.clip(chance, 1e-3, 1 - 1e-9)) - 1, patients.hours - 1)
    is_first = hour == first[stay]

    ordered = np.zeros((n, len(names)), dtype=np.bool_)
    extra = np.zeros(len(names))
    pace = np.exp(_REPEATS * profile.habit * patients.suspicion)
    for j, name in enumerate(names):
        i = base.index(name)
        usual = 1 - base.never_measured[i]
        share = _odds_times(usual, profile.panels.get(panel, 1.0)) if usual else _absent(profile, panel)
        own = np.sqrt(1 - _OWN**2) * order + _OWN * rng.standard_normal(n)
        ordered[:, j] = ndtr(own) > 1 - share
        hours_wanted = _per_patient(profile, name) * float(np.sum(patients.hours)) * share
        exposure = float(np.sum((patients.hours * pace)[ordered[:, j]]))
        extra[j] = max(hours_wanted - ordered[:, j].sum(), 0.0) / exposure if exposure else 0.0
    pace_of_panel = min(float(extra.max()), 1.0)
    again = rng.random(len(hour)) < pace_of_panel * pace[stay]
    for j, name in enumerate(names):
        kept = is_first.copy()
        if pace_of_panel:
            kept[again] |= rng.random(int(again.sum())) < extra[j] / pace_of_panel
        out[:, base.index(name)] = kept & ordered[stay, j]


def _odds_times(share: float, factor: float) -> float:
    return share * factor / (1 - share + share * factor)


def _absent(profile: SiteProfile, panel: Laboratory) -> float:
    """Share of patients for whom a panel is drawn that the base hospital lacks: as at the other, if it is asked for."""
    other = figures("B" if profile.base == "A" else "A")
    if panel not in profile.panels:
        return 0.0
    return _odds_times(1 - float(other.never_measured[other.index(PANELS[panel][0])]), profile.panels[panel])


def _per_patient(profile: SiteProfile, name: str) -> float:
    """Share of hours in which the variable is measured, among patients for whom it is ever measured."""
    base = figures(profile.base)
    if base.never_measured[base.index(name)] == 1:
        base = figures("B" if profile.base == "A" else "A")
    i = base.index(name)
    return float(_rate(base.row_missing[i], base.never_measured[i]))


def spoil(values: dict[str, npt.NDArray[np.float32]], profile: SiteProfile, rng: np.random.Generator) -> None:
    """Write some values in other units and some as nonsense, in place."""
    for mixup in profile.mixups:
        column = values[mixup.column]
        hit = rng.random(len(column)) < mixup.share
        column[hit] = column[hit] * mixup.factor + mixup.offset
    for outlier in profile.outliers:
        column = values[outlier.column]
        hit = (rng.random(len(column)) < outlier.share) & ~np.isnan(column)
        column[hit] = rng.uniform(outlier.low, outlier.high, int(hit.sum()))
