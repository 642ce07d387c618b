"""Data can be too good: along a generator's fidelity dial, where models learn from its rows and attackers do too.

A dial is an option that makes rows more faithful (:data:`DIALS`). Rows of the table that differ in it alone are put in
its order. *Memorisation starts* at the first setting from which an attacker who holds the full record tells, from the
released table alone, patients whose data were used from others.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist

from pettoolkit.experiment.cells import CellReport
from pettoolkit.records import AttackFigure, Json, MeasuredRisk, ModelSpec, RunResult, RunSpec, digest_of
from pettoolkit.report.listing import model

DIALS: Mapping[str, Callable[[Json], float]] = {
    "fit_epochs": lambda value: float(value),
    "smoothing": lambda value: -float(value),
}
"""Option -> how faithful a value of it makes the rows, for sorting."""

ATTACKS = ("density_ratio", "near_match", "exact_match")
"""Membership attacks on the released table, whatever is trained on it."""

TRAINING = ("epochs", "batch_size", "learning_rate")
"""Options of the training on the rows, which follow the model and change no row."""

LEVEL = 0.05
"""Chance of a false start somewhere along one dial, at most (Bonferroni over its settings and attacks)."""


@dataclass(frozen=True)
class _Stop:
    """One setting of a dial: all its cells."""

    value: Json
    results: tuple[RunResult, ...]


def dial_lines(reports: Sequence[CellReport]) -> list[str]:
    """One line for each dial with at least two settings that were attacked; cells under DP belong to none."""
    dials: dict[str, list[CellReport]] = {}
    names: dict[str, str] = {}
    for report in reports:
        spec = report.spec
        if report.result is None or spec.dp is not None or not _figures(report.result, ATTACKS[0]):
            continue
        for name in DIALS:
            if spec.options.get(name) is not None:
                key = _apart_from(spec, name)
                dials.setdefault(key, []).append(report)
                names[key] = name
    found = [(names[key], _stops(names[key], some)) for key, some in dials.items()]
    return [_line(name, stops) for name, stops in found if len(stops) > 1]


def _apart_from(spec: RunSpec, dial: str) -> str:
    """What cells of one dial have in common: all but the dial's value, the seed and the model trained on the rows."""
    options = {name: value for name, value in spec.options.items() if name != dial and name not in TRAINING}
    return dial + digest_of(replace(spec, seed=0, contract={}, model=ModelSpec("any"), options=options).wire())


def _stops(dial: str, reports: Sequence[CellReport]) -> list[_Stop]:
    values = sorted({report.spec.options[dial] for report in reports}, key=DIALS[dial])
    here = {v: tuple(r.result for r in reports if r.spec.options[dial] == v and r.result is not None) for v in values}
    return [_Stop(value, here[value]) for value in values]


def _line(dial: str, stops: Sequence[_Stop]) -> str:
    spec = stops[0].results[0].spec
    settings = " > ".join(f"{stop.value:g}" for stop in stops)
    models = dict.fromkeys(model(r.spec) for r in stops[0].results)
    scores = "; ".join(f"AUROC of {m} {', '.join(_auroc(stop, m) for stop in stops)}" for m in models)
    found = [_excess(stop, ATTACKS[0]) for stop in stops]
    risks = ", ".join(f"{round(f[0], 2) + 0.0:.2f}" for f in found if f is not None)
    return (
        f"Dial {dial} of {spec.options['generator']}, from loose to faithful {settings}: {scores}; membership told "
        f"from the rows (excess of {ATTACKS[0]}) {risks}: {_start(stops)}."
    )


def _start(stops: Sequence[_Stop]) -> str:
    quantile = NormalDist().inv_cdf
    stretch = quantile(1 - LEVEL / (2 * len(stops) * len(ATTACKS))) / quantile(0.975)
    for stop in stops:
        for attack in ATTACKS:
            found = _excess(stop, attack)
            if found is None:
                continue
            excess, low = found
            surely = excess - stretch * (excess - low)
            if surely > 0:
                return f"memorisation starts at {stop.value:g} ({attack}, excess at least {surely:.3f})"
    return "memorisation was not seen (these attacks, so many patients: that is no proof of none)"


def _excess(stop: _Stop, attack: str) -> tuple[float, float] | None:
    """Excess and its lower end, means over the seeds; a mean of lower ends is below the mean's own lower end.

    All models are trained on one table, so each seed counts once. None if the attack did not run.
    """
    by_seed = {r.spec.seed: f for r in stop.results for f in _figures(r, attack)}
    if not by_seed:
        return None
    figures = by_seed.values()
    return statistics.fmean(f.excess for f in figures), statistics.fmean(f.interval.low for f in figures)


def _figures(result: RunResult, attack: str) -> list[AttackFigure]:
    measured = result.privacy.measured
    if not isinstance(measured, MeasuredRisk):
        return []
    return [f for f in measured.figures if (f.attack, f.view, f.site) == (attack, "release", "*")]


def _auroc(stop: _Stop, name: str) -> str:
    known = [r.metrics["utility/auroc"] for r in stop.results if model(r.spec) == name and "utility/auroc" in r.metrics]
    return f"{statistics.fmean(known):.3f}" if known else "undefined"
