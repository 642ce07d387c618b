"""How sure one may be of an attack's figure. Pure functions of counts, scores and patients.

Everything is per *distinct patient*: a patient who is attacked five times is one observation, the mean of
the five. Excess risk is ``(attack - control) / (1 - control)`` = 1 - (1 - attack) / (1 - control): one minus
a ratio of two independent proportions (of failures), so its interval is one of a ratio.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from pettoolkit.records import Interval

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LEVEL = 0.95
"""Of a single interval."""


@dataclass(frozen=True)
class Rate:
    """A success rate over ``patients`` distinct patients."""

    value: float
    patients: int


def rate_of(patient: Ints, hit: Bools) -> Rate:
    """Success rate in which each patient counts once, however often he or she was attacked.

    Parameters
    ----------
    patient, hit
        Per attack, shape (attacks,): whom it was aimed at, and whether it succeeded.
    """
    if not len(patient):
        return Rate(0.0, 0)
    people, code = np.unique(patient, return_inverse=True)
    share = np.bincount(code, weights=hit.astype(np.float64)) / np.bincount(code)
    return Rate(float(share.mean()), len(people))


def wilson(rate: Rate, level: float = LEVEL) -> Interval:
    """Wilson's (1927) score interval of a proportion; (0, 1) without anybody.

    Means over a patient's attacks vary less than a coin of the same rate, so with several attacks a patient it is
    too wide rather than too narrow.
    """
    n = rate.patients
    if not n:
        return Interval(0.0, 1.0)
    z = _z(level)
    middle = (rate.value + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(rate.value * (1 - rate.value) / n + z**2 / (4 * n**2))
    return Interval(max(0.0, middle - half), min(1.0, middle + half))


def excess(attack: float, control: float) -> float:
    """``(attack - control) / (1 - control)``, at least -1; 0 where the control always succeeds."""
    return max(-1.0, (attack - control) / (1 - control)) if control < 1 else 0.0


def excess_interval(attack: Rate, control: Rate, level: float = LEVEL) -> Interval:
    """Interval of the excess, from the Wilson intervals of both rates.

    The ratio of the failure rates gets the MOVER-R interval of Donner and Zou 2012 ("Closed-form confidence
    intervals for functions of the normal mean and standard deviation", Statistical Methods in Medical Research
    21:347), which is closed and keeps its level at rates near 0 and 1. A control that never fails gives (-1, 1):
    nothing can be said.
    """
    top, bottom = 1 - attack.value, 1 - control.value
    a, c = wilson(attack, level), wilson(control, level)
    low_top, high_top, low_bottom, high_bottom = 1 - a.high, 1 - a.low, 1 - c.high, 1 - c.low
    if not attack.patients or not control.patients or bottom <= 0 or low_bottom <= 0:
        return Interval(-1.0, 1.0)
    product = top * bottom
    under_low = product**2 - low_top * high_bottom * (2 * top - low_top) * (2 * bottom - high_bottom)
    under_high = product**2 - high_top * low_bottom * (2 * top - high_top) * (2 * bottom - low_bottom)
    least = (product - math.sqrt(max(0.0, under_low))) / (high_bottom * (2 * bottom - high_bottom))
    most = (product + math.sqrt(max(0.0, under_high))) / (low_bottom * (2 * bottom - low_bottom))
    return Interval(max(-1.0, 1 - most), min(1.0, 1 - max(0.0, least)))


def bonferroni(tests: int, level: float = LEVEL) -> float:
    """Level of each of ``tests`` intervals that all hold together with probability ``level``."""
    return 1 - (1 - level) / max(1, tests)


def half_of(patient: Ints) -> Ints:
    """0 or 1 for each patient, by a hash of the number: halves that depend on nobody else (SplitMix64's finaliser)."""
    with np.errstate(over="ignore"):  # arithmetic modulo 2**64 is meant
        bits = patient.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        bits ^= bits >> np.uint64(31)
    return (bits & np.uint64(1)).astype(np.int64)


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
