"""Who becomes septic, and when: the simulator's truth, which no model sees.

The risk is logistic in terms of a patient's latent scores. Some terms bend (both fever and low temperature, high and
low white counts; low pressure together with a fast heart), so that a model that can bend beats one that
cannot. One term, the staff's suspicion, is never recorded, but it decides what they order: that a value is there
says something. Sizes were chosen by hand so that models reach about what they reach on the real data.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pettoolkit.cohort.marginals import correlate, figures, score_correlation
from pettoolkit.cohort.profiles import Effect, SiteProfile

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

EFFECTS: dict[Effect, float] = {
    "suspicion": 1.6,
    "severity": 0.4,
    "temperature": 1.4,
    "white_count": 0.9,
    "shock": 0.7,
    "respiration": 0.4,
    "organs": 0.5,
    "glucose": 0.7,
    "age": 0.1,
}
"""Log odds ratio of one standard deviation of each term."""

_SEVERITY = {  # what sick patients have, in weights of scores
    "HR": 1.0, "Resp": 1.0, "SBP": -0.7, "MAP": -0.7, "Lactate": 1.0, "Creatinine": 0.8, "BUN": 0.8,
    "Bilirubin_total": 0.7, "Platelets": -0.5, "pH": -0.6, "HCO3": -0.6, "WBC": 0.5, "FiO2": 0.7, "O2Sat": -0.4,
}  # fmt: skip
_UNIT_LOG_ODDS = {"A": (0.15, -0.85, 0.1), "B": (0.0, 0.1, -0.05)}  # medical, surgical, unknown; as at A and B

# Hours until the label turns positive, and hours of the other stays: quantiles, rounded, much alike at A and B.
_ONSET = ((0.0, 0.12, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0), (0.0, 0.0, 5.0, 28.0, 72.0, 129.0, 184.0, 250.0, 326.0))
_STAY = (
    (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 1.0),
    (8.0, 11.0, 16.0, 19.0, 24.5, 38.5, 46.5, 54.0, 61.0, 90.0),
)
_AFTER_LABEL = (9, 11)  # hours from the first positive label to the end: six to the onset and about three more


class Patients(NamedTuple):
    """Latent truth of n stays; ``scores`` (n, V) standard normal, ``unit`` 0 medical, 1 surgical, 2 unknown.

    ``onset`` is the hour (0-based) of the first positive label, larger than any hour if there is none.
    """

    scores: Floats
    suspicion: Floats
    severity: Floats
    unit: npt.NDArray[np.int_]
    hours: npt.NDArray[np.int_]
    onset: npt.NDArray[np.int_]


def draw_patients(profile: SiteProfile, stays: int, rng: np.random.Generator) -> Patients:
    """Draw the latent truth of a hospital's stays."""
    independent = rng.standard_normal((stays, len(figures(profile.base).variables)))
    scores = correlate(independent, profile.base)
    suspicion = rng.standard_normal(stays)
    severity = _severity(profile, scores)
    shares = (profile.units.medical, profile.units.surgical)
    unit = np.searchsorted(np.cumsum(shares), rng.random(stays), side="right")
    risk = _log_odds(profile, scores, suspicion, severity) + np.array(_UNIT_LOG_ODDS[profile.base])[unit]
    septic = rng.random(stays) < _probabilities(risk, profile.prevalence)
    onset = np.interp(rng.random(stays), *_ONSET).astype(np.int_)
    other = np.rint(np.interp(rng.random(stays), *_STAY)).astype(np.int_)
    hours = np.where(septic, np.maximum(onset + rng.integers(*_AFTER_LABEL, stays), 8), other)
    return Patients(scores, suspicion, severity, unit, hours, np.where(septic, onset, np.iinfo(np.int64).max))


def _severity(profile: SiteProfile, scores: Floats) -> Floats:
    base, weights, total = figures(profile.base), np.zeros(scores.shape[1]), np.zeros(len(scores))
    for name, weight in _SEVERITY.items():
        weights[base.index(name)] = weight
        total += weight * scores[:, base.index(name)]
    return np.asarray(total / np.sqrt(weights @ score_correlation(profile.base) @ weights))


def _log_odds(profile: SiteProfile, scores: Floats, suspicion: Floats, severity: Floats) -> Floats:
    position = figures(profile.base).index

    def z(name: str) -> Floats:
        return scores[:, position(name)]

    terms: dict[Effect, Floats] = {
        "suspicion": suspicion,
        "severity": severity,
        "temperature": _standard(np.abs(z("Temp"))),
        "white_count": _standard(np.abs(z("WBC"))),
        "shock": _standard(np.maximum(z("HR"), 0) * np.maximum(-z("MAP"), 0)),
        "respiration": _standard(np.maximum(z("Resp"), 0.3)),
        "organs": _standard(np.maximum(z("Creatinine"), 0) + np.maximum(z("Bilirubin_total"), 0)),
        "glucose": _standard(np.abs(z("Glucose"))),
        "age": z("Age"),
    }
    total = np.zeros(len(scores))
    for name, weight in EFFECTS.items():
        total += weight * profile.effects.get(name, 1.0) * terms[name]
    return total


def _standard(x: Floats) -> Floats:
    return np.asarray((x - x.mean()) / max(float(x.std()), 1e-9))


def _probabilities(risk: Floats, prevalence: float) -> Floats:
    """Logistic probabilities whose mean is the prevalence (bisection for the intercept)."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        mean = float(np.mean(1 / (1 + np.exp(-np.clip(risk + middle, -50, 50)))))
        low, high = (middle, high) if mean < prevalence else (low, middle)
    return np.asarray(1 / (1 + np.exp(-np.clip(risk + low, -50, 50))))
