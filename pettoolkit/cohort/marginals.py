"""Published aggregate figures of two real hospitals, and the distributions that the simulator draws from them.

The figures (``calibration/physionet2019.json``; CC BY 4.0, source and citation in the file) are means, standard
deviations, percentiles, shares missing and rank correlations. No patient's record is in them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Base = Literal["A", "B"]

GRID: Floats = np.linspace(-4.5, 4.5, 181)
"""Standard normal scores at which quantile functions are tabulated."""

_KNOTS: Floats = np.array([-2.3263479, -0.6744898, 0.0, 0.6744898, 2.3263479])  # scores of p1, p25, p50, p75, p99
_WEIGHTS: Floats = np.exp(-0.5 * GRID**2) / np.exp(-0.5 * GRID**2).sum()
_LIGHT_TAIL = 0.3  # beyond the last percentile of the lighter side the slope falls to this share
_LEAST_TAIL = 0.1  # slope beyond the heavier side's last percentile: at 0 a percent of all values would be equal
_CEILING = {"O2Sat": 100.0, "SaO2": 100.0, "FiO2": 1.0, "HospAdmTime": 0.0, "Age": 100.0}
_FLOOR = {"Age": 18.0, "FiO2": 0.21}
_FLOOR_SHARE = 0.5  # other positive quantities do not fall below this share of their first percentile
_SPOILT = {("B", "Calcium"), ("B", "FiO2")}
"""Figures at B that mix units (Calcium in mmol/L, FiO2 in percent): A's stand in, and a profile adds the mix-up."""


@dataclass(frozen=True)
class Figures:
    """The aggregate figures of one hospital, in the order of ``variables`` (V of them).

    ``mean``, ``sd``, ``percentiles`` (V, 5: p1, p25, p50, p75, p99) are over all measured hourly values, in the
    contract's units; ``row_missing`` and ``never_measured`` are shares of hours and of stays; ``drift`` is the
    difference of the mean between hours with and without a positive label, in standard deviations; ``spearman``
    (V, V) is between the last values of patients, 0 where a variable is never measured; ``prevalence`` is the
    share of septic stays; ``iculos`` holds mean, sd and the five percentiles of the hour over all rows.
    """

    variables: tuple[str, ...]
    mean: Floats
    sd: Floats
    percentiles: Floats
    row_missing: Floats
    never_measured: Floats
    drift: Floats
    spearman: Floats
    prevalence: float
    iculos: Floats

    def index(self, variable: str) -> int:
        """Position of a variable."""
        return self.variables.index(variable)


@lru_cache(maxsize=2)
def figures(base: Base) -> Figures:
    """Published figures of hospital A or B."""
    content = json.loads(files("pettoolkit.cohort").joinpath("calibration/physionet2019.json").read_text("utf-8"))
    hospital, names = content["hospitals"][base], tuple(content["variables"])
    table = np.array([hospital["figures"][v] for v in names], dtype=np.float64)  # null becomes NaN
    spearman = np.eye(len(names))
    for i, row in enumerate(hospital["spearman"]):
        spearman[i, i + 1 :] = spearman[i + 1 :, i] = np.nan_to_num(np.array(row, dtype=np.float64))
    return Figures(
        variables=names,
        mean=table[:, 0],
        sd=table[:, 1],
        percentiles=table[:, 2:7],
        row_missing=table[:, 7],
        never_measured=table[:, 8],
        drift=np.nan_to_num((table[:, 9] - table[:, 10]) / table[:, 1]),
        spearman=spearman,
        prevalence=float(hospital["prevalence"]),
        iculos=np.array(hospital["iculos"], dtype=np.float64),
    )


@lru_cache(maxsize=2)
def score_correlation(base: Base) -> Floats:
    """Correlation (V, V) of normal scores that gives the published rank correlations.

    Under a Gaussian copula r = 2 sin(pi rho / 6) (Pearson 1907). Pairwise estimates need not form a correlation
    matrix, so negative eigenvalues are cut off and the diagonal is set back to 1.
    """
    r = 2.0 * np.sin(np.pi * figures(base).spearman / 6.0)
    np.fill_diagonal(r, 1.0)
    values, vectors = np.linalg.eigh(r)
    r = (vectors * np.maximum(values, 1e-3)) @ vectors.T
    scale = np.sqrt(np.diag(r))
    return np.asarray(r / np.outer(scale, scale), dtype=np.float64)


def correlate(independent: npt.NDArray[Any], base: Base) -> npt.NDArray[Any]:
    """Give independent standard normal columns, shape (n, V), the correlation of the base's scores.

    Written as sums of columns, not as a matrix product: the last bits of that depend on the number of threads, and
    the digest of a simulated table must not.
    """
    factor = np.round(np.linalg.cholesky(score_correlation(base)), 6).astype(independent.dtype)
    columns = np.ascontiguousarray(independent.T)
    out = np.empty_like(columns)
    for j, weights in enumerate(factor):
        np.multiply(columns[0], weights[0], out=out[j])
        for k in range(1, j + 1):
            out[j] += weights[k] * columns[k]
    return np.ascontiguousarray(out.T)


@lru_cache(maxsize=2)
def quantile_tables(base: Base) -> Floats:
    """Value of each variable at each score of :data:`GRID`, shape (V, len(GRID)); increasing along a row.

    A row meets the five published percentiles. The curvature between the quartile and the percentile of the
    heavier side is then fitted to the published mean, and the slope beyond that percentile to the published SD.
    A variable that this hospital never measures has the other hospital's distribution (another site
    that is based on this one may measure it).
    """
    own, other = figures(base), figures("B" if base == "A" else "A")
    rows = []
    for i, name in enumerate(own.variables):
        absent = np.isnan(own.mean[i]) or (base, name) in _SPOILT
        source = other if absent else own
        p, mean, sd = source.percentiles[i], float(source.mean[i]), float(source.sd[i])
        floor = _FLOOR.get(name, _FLOOR_SHARE * p[0] if p[0] > 0 else -np.inf)
        rows.append(_quantiles(p, mean, sd, floor, _CEILING.get(name, np.inf)))
    return np.array(rows)


def _quantiles(p: Floats, mean: float, sd: float, low: float, high: float) -> Floats:
    if p[2] - p[0] > p[4] - p[2]:  # heavier below the median: solve the mirror image
        return -_heavy_above(-p[::-1], -mean, sd, -high, -low)[::-1]
    return _heavy_above(p, mean, sd, low, high)


def _heavy_above(p: Floats, mean: float, sd: float, low: float, high: float) -> Floats:
    def table(curve: float, tail: float) -> Floats:
        q = np.interp(GRID, _KNOTS, p)
        below = _KNOTS[0] > GRID
        q[below] = p[0] - _LIGHT_TAIL * (_KNOTS[0] - GRID[below]) * (p[1] - p[0]) / (_KNOTS[1] - _KNOTS[0])
        way = (GRID - _KNOTS[3]) / (_KNOTS[4] - _KNOTS[3])
        bend = (way > 0) & (way <= 1)
        q[bend] = p[3] + (p[4] - p[3]) * (np.expm1(curve * way[bend]) / np.expm1(curve))
        q[way > 1] = p[4] + tail * (p[4] - p[3]) * (way[way > 1] - 1)
        return np.asarray(np.clip(q, low, high), dtype=np.float64)

    curve, tail = 1e-3, 1.0
    for _ in range(4):
        curve = _falling(lambda c: float(_WEIGHTS @ table(c, tail)) - mean, -4.0 + 1e-3, 8.0)  # noqa: B023 (called at once)
        tail = -_falling(lambda t: _spread(table(curve, -t)) - sd, -8.0, -_LEAST_TAIL)  # noqa: B023
    return table(curve, tail)


def _spread(q: Floats) -> float:
    return float(np.sqrt(_WEIGHTS @ (q - _WEIGHTS @ q) ** 2))


def _falling(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function crosses zero, or the nearer end (bisection)."""
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return (low + high) / 2
