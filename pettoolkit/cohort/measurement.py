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

from pettoolkit.cohort.marginals import Figures, figures
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
    "blood_count": _Habit(0.39, 0.10, 0.75, 0.0, 0.08),
    "blood_gas": _Habit(0.52, 0.15, 0.0, 0.80, 0.10),
    "chemistry": _Habit(0.45, 0.10, 0.75, 0.0, 0.085),
    "coagulation": _Habit(0.45, 0.15, 0.25, 0.10, 0.08),
    "end_tidal_co2": _Habit(0.33, 0.10, 0.0, 0.40, 0.10),
    "lactate": _Habit(0.65, 0.20, 0.0, 0.70, 0.07),
    "liver": _Habit(0.52, 0.15, 0.25, 0.0, 0.07),
    "minerals": _Habit(0.45, 0.10, 0.65, 0.0, 0.065),
    "troponin": _Habit(0.07, 0.10, 0.05, 0.0, 0.15),
}
_OWN = 0.25  # a variable's own share in whether it is ordered with its panel
_HASTE = 0.5  # the first draw of a patient one SD more suspect comes exp(.5) times as soon
_REPEATS = 0.25  # ... and further draws exp(.25) times as often
_FIRST_HOUR_GAP = 0.75  # the monitor is not yet connected in that share of first hours
_GAP = 0.7  # share of the monitor's missing hours in which all its values are missing together


class Rows(NamedTuple):
    """The hours of all stays, shape (N,): index of the patient, and hour since the start (from 0)."""

    stay: Ints
    hour: Ints


class _Orders(NamedTuple):
    """Who gets a panel: latent wish to order it and relative pace of repeats (n,), and hour of the first draw (n,)."""

    wish: Floats
    pace: Floats
    first: Ints


def measured(profile: SiteProfile, patients: Patients, rows: Rows, rng: np.random.Generator) -> Bools:
    """Which values exist.

    Returns
    -------
    ndarray of bool, shape (N, V)
        In the order of the figures' variables; Age, Gender and HospAdmTime are always there.
    """
    base = figures(profile.base)
    out = np.ones((len(rows.stay), len(base.variables)), dtype=np.bool_)
    _bedside(out, profile, patients, rows, rng)
    rounds_and_gas = rng.standard_normal((len(patients.hours), 2))
    for panel, names in PANELS.items():
        orders = _orders(profile, HABITS[panel], patients, rounds_and_gas, rng)
        shares = [_share_ordered(profile, panel, name) for name in names]
        ordered = _ordered(orders.wish, shares, rng)
        repeats = [
            _repeats(profile, v, patients, orders, ordered[:, j], s)
            for j, (v, s) in enumerate(zip(names, shares, strict=True))
        ]
        drawn = _drawn(orders, np.array(repeats), rows, rng)
        for j, name in enumerate(names):
            out[:, base.index(name)] = drawn[:, j] & ordered[rows.stay, j]
    return out


def _bedside(out: Bools, profile: SiteProfile, patients: Patients, rows: Rows, rng: np.random.Generator) -> None:
    base = figures(profile.base)
    factors = {BEDSIDE[k]: v for k, v in profile.panels.items() if k in BEDSIDE}
    rates = {v: _rate(profile, v) for v in MONITORED}
    gap = _GAP * (1 - max(rates.values()))
    first = rows.hour == 0
    later = max(gap - float(first.mean()) * (_FIRST_HOUR_GAP - gap), 0.0)
    connected = rng.random(len(first)) >= np.where(first, _FIRST_HOUR_GAP, later)
    for name, rate in rates.items():
        i = base.index(name)
        share = _odds_times(1 - float(base.never_measured[i]), factors.get(name, 1.0))
        ever = rng.random(len(patients.hours)) < share
        out[:, i] = connected & ever[rows.stay] & (rng.random(len(first), dtype=np.float32) < rate / (1 - gap))


def _orders(
    profile: SiteProfile, habit: _Habit, patients: Patients, rounds_and_gas: Floats, rng: np.random.Generator
) -> _Orders:
    known = np.array([profile.habit * habit.suspicion, habit.severity, habit.routine, habit.gas])
    known *= min(1.0, 0.98 / float(np.linalg.norm(known)))
    latent = (patients.suspicion, patients.severity, *rounds_and_gas.T)
    wish = np.sum([weight * column for weight, column in zip(known, latent, strict=True)], axis=0)
    wish += np.sqrt(1 - float(np.sum(known**2))) * rng.standard_normal(len(wish))
    haste = profile.habit * patients.suspicion
    chance = np.clip(1 - (1 - habit.first) ** np.exp(_HASTE * haste), 1e-3, 1.0)
    return _Orders(wish, np.exp(_REPEATS * haste), np.minimum(rng.geometric(chance) - 1, patients.hours - 1))


def _ordered(wish: Floats, shares: list[float], rng: np.random.Generator) -> Bools:
    """Whether each variable of a panel is ordered at all, shape (n, variables): mostly nested, as they go together."""
    own = rng.standard_normal((len(wish), len(shares)))
    score = np.sqrt(1 - _OWN**2) * wish[:, None] + _OWN * own
    return np.asarray(ndtr(score) > 1 - np.array(shares))


def _share_ordered(profile: SiteProfile, panel: Laboratory, name: str) -> float:
    """Share of patients for whom a variable is ever drawn.

    A base hospital that lacks the variable leaves it out, unless the profile asks for the panel.
    """
    base = _source(profile, name)
    if base is not figures(profile.base) and panel not in profile.panels:
        return 0.0
    return _odds_times(1 - float(base.never_measured[base.index(name)]), profile.panels.get(panel, 1.0))


def _repeats(
    profile: SiteProfile, name: str, patients: Patients, orders: _Orders, ordered: Bools, share: float
) -> float:
    """Hourly chance of a further draw that leads, with the first draws, to the published share of hours."""
    exposure = float(np.sum((patients.hours * orders.pace)[ordered]))
    wanted = _rate(profile, name) * share * float(patients.hours.sum()) - float(ordered.sum())
    return max(wanted, 0.0) / exposure if exposure else 0.0


def _drawn(orders: _Orders, repeats: Floats, rows: Rows, rng: np.random.Generator) -> Bools:
    """When each variable of a panel is drawn, shape (N, variables): together, less what is left out of a repeat."""
    out = np.repeat((rows.hour == orders.first[rows.stay])[:, None], len(repeats), axis=1)
    most = min(float(repeats.max()), 1.0)
    if most:
        again = np.flatnonzero(rng.random(len(rows.stay)) < most * orders.pace[rows.stay])
        out[again] |= rng.random((len(again), len(repeats))) < repeats / most
    return out


def _source(profile: SiteProfile, name: str) -> Figures:
    """Figures of the base hospital, or of the other one where the base never measures the variable."""
    base = figures(profile.base)
    if base.never_measured[base.index(name)] < 1:
        return base
    return figures("B" if profile.base == "A" else "A")


def _rate(profile: SiteProfile, name: str) -> float:
    """Share of hours in which the variable is measured, among patients for whom it is ever measured."""
    base = _source(profile, name)
    i = base.index(name)
    return float((1 - base.row_missing[i]) / (1 - base.never_measured[i]))


def _odds_times(share: float, factor: float) -> float:
    return share * factor / (1 - share + share * factor)


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
