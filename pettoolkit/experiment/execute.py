"""One cell, from its spec to its result: train over the grid, judge, put the record together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.serverapp import Grid

from pettoolkit.arms.app import coordinate
from pettoolkit.attacks.metrics import risk_metrics
from pettoolkit.attacks.outside import measure
from pettoolkit.evaluation.judgement import Evaluation, evaluate
from pettoolkit.evaluation.outside import score
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.evaluation.robustness import cross_site
from pettoolkit.experiment.notes import DROPPED, contract_notes, threshold_of
from pettoolkit.experiment.quality import declared
from pettoolkit.federation.journal import Journal
from pettoolkit.federation.metered import Dropped, MeteredGrid
from pettoolkit.records import Cost, Exposure, Json, Models, NotMeasured, Outcome, RunResult, RunSpec, Weights

RESUMED = "went on from {} answers of a run that was stopped: seconds and memory are those of the rest"
"""Note on a cell whose cost was not measured as a whole."""


@dataclass(frozen=True)
class Executed:
    """A cell's result with what is stored beside it."""

    result: RunResult
    predictions: Mapping[str, SitePredictions]
    models: Models
    files: Mapping[str, bytes] = field(default_factory=dict)
    table: Mapping[str, Json] | None = None
    """What the arm handed over as a table, see :mod:`pettoolkit.experiment.released`."""


def execute(grid: Grid, spec: RunSpec, config_hash: str, journal: Path | None = None) -> Executed:
    """Run one cell.

    Parameters
    ----------
    journal
        File that an interrupted training of this cell left, or will leave: it goes on where it was. Only to be given
        where hospitals have kept what they kept then (:mod:`.unfinished`): one who comes back with nothing would have
        forgotten what was spent. Whoever keeps the result deletes it.

    Raises
    ------
    SiteFailed, Refused, BadInput
        If a hospital failed or refused, or the arm can't do what was asked.
    """
    if (reset := getattr(grid, "reset_peaks", None)) is not None:
        reset()
    before = usage_of(grid)
    metered = metered_for(grid, spec)
    answers = None if journal is None else Journal(journal)
    written = 0 if answers is None else len(answers)
    metered.resume(answers)
    outcome = coordinate(metered, spec)
    metered.resume(None)
    after = usage_of(grid)
    metered.readmit()  # the model is judged on the patients of those too who failed while it was trained
    scores = score(metered, spec, outcome.models)
    shared = outcome.models.shared
    predictions = scores[Models.SHARED] if shared else own_predictions(scores)
    judged = evaluate(
        predictions,
        threshold=threshold_of(spec.contract),
        unseen=spec.unseen,
        foreign=None if shared else scores,
    )
    risk = measure(metered, spec, outcome)
    quality = declared(metered, spec, outcome)
    exposure = metered.exposure(out_of_band=outcome.exposure.out_of_band)
    cost = _cost(outcome, before, after)
    result = RunResult(
        spec=spec,
        config_hash=config_hash,
        metrics={
            **judged.metrics,
            **cost_metrics(cost, exposure, spec),
            **outcome.encryption,
            **outcome.figures,
            **risk_metrics(risk),
            **quality.metrics,
            **({"robustness/sites_dropped": float(len({d.site for d in metered.drops}))} if metered.drops else {}),
        },
        intervals=judged.intervals,
        per_site=judged.per_site,
        cross_site=NotMeasured("one model is shared by all hospitals") if shared else cross_site(scores),
        subgroups=judged.subgroups,
        privacy=replace(outcome.privacy, measured=risk),
        exposure=exposure,
        cost=cost,
        round_metrics=outcome.round_metrics,
        coefficients=outcome.coefficients,
        notes=(
            *((RESUMED.format(written),) if written else ()),
            *dropped_notes(metered.drops),
            *outcome.notes,
            *contract_notes(spec),
            *quality.notes,
            *_undefined(judged),
        ),
    )
    return Executed(result, predictions, outcome.models, quality.files, outcome.released_table)


def metered_for(grid: Grid, spec: RunSpec) -> MeteredGrid:
    """The meter of a cell, which keeps its fault policy."""
    if spec.faults.get("on_failure", "fail") != "drop":
        return MeteredGrid(grid)
    return MeteredGrid(
        grid,
        sites=(*spec.sites, *spec.unseen),
        on_failure="drop",
        min_sites=spec.faults.get("min_sites") or max(1, len(spec.sites) - 1),
        counted=spec.sites,
        timeout=float(spec.faults.get("round_timeout", 600)),
    )


def dropped_notes(drops: Sequence[Dropped]) -> tuple[str, ...]:
    """One note per hospital that the cell went on without."""
    return tuple(f"{DROPPED} {d.site} in round {d.round} ({d.purpose}): {d.reason}" for d in drops)


def own_predictions(scores: Mapping[str, Mapping[str, SitePredictions]]) -> dict[str, SitePredictions]:
    """Each hospital's own model at home; an unseen hospital gets the mean score of the foreign models."""
    everywhere = {site for tests in scores.values() for site in tests}
    own = {site: scores[site][site] for site in sorted(scores) if site in everywhere}  # one may be dropped since
    for site in sorted(everywhere - set(scores)):
        foreign = [tests[site] for tests in scores.values()]
        mean = np.mean([p.score for p in foreign], axis=0)
        own[site] = replace(foreign[0], score=mean)
    return own


def cost_metrics(cost: Cost, exposure: Exposure, spec: RunSpec) -> dict[str, float]:
    """Cost under the names of DESIGN section 7; bytes per site are the mean over the hospitals that train."""
    named: dict[str, Any] = {
        "cost/train_seconds": cost.train_seconds,
        "cost/cpu_seconds": cost.cpu_seconds,
        "cost/cpu_seconds_site_max": cost.cpu_seconds_site_max,
        "cost/cpu_seconds_coordinator": cost.cpu_seconds_coordinator,
        "cost/peak_rss_mb": cost.peak_rss_mb,
        **cost.extra,
    }
    for direction in ("out", "in"):
        per_site = exposure.bytes_per_site(direction)
        named[f"cost/bytes_{direction}_per_site"] = sum(per_site.values()) / max(len(spec.sites), 1)
    return {name: float(value) for name, value in named.items() if not isinstance(value, NotMeasured)}


def usage_of(grid: Grid) -> dict[str, Any]:
    """CPU seconds by hospital and peak memory by process, as far as the grid knows them."""
    import resource

    mine = resource.getrusage(resource.RUSAGE_SELF)
    reader = getattr(grid, "usage", None)
    return {"coordinator": mine.ru_utime + mine.ru_stime, **(reader() if reader is not None else {})}


def _cost(outcome: Outcome, before: Mapping[str, Any], after: Mapping[str, Any]) -> Cost:
    sites = {
        site: seconds - before.get("cpu_seconds", {}).get(site, 0.0)
        for site, seconds in after.get("cpu_seconds", {}).items()
    }
    if not sites:
        return outcome.cost
    # Hospitals in this process burn the coordinator's CPU time; it is told apart by subtraction.
    mine = after["coordinator"] - before["coordinator"]
    if "in-process" in after.get("peak_rss_mb", {}):
        mine = max(0.0, mine - sum(sites.values()))
    peaks = after.get("peak_rss_mb", {})
    return replace(
        outcome.cost,
        cpu_seconds=mine + sum(sites.values()),
        cpu_seconds_site_max=max(sites.values()),
        cpu_seconds_coordinator=mine,
        peak_rss_mb=max(peaks.values()) if peaks else outcome.cost.peak_rss_mb,
    )


def _undefined(judged: Evaluation) -> list[str]:
    """One note per hospital and reason: ``site/north/auprc, precision: undefined: 7 positives at this site, ..``."""
    figures: dict[tuple[str, str], list[str]] = {}
    for name, why in judged.undefined.items():
        if name.startswith("site/"):
            site, _, figure = name.rpartition("/")
            figures.setdefault((site, why.reason), []).append(figure)
    return [f"{site}/{', '.join(names)}: {reason}" for (site, reason), names in figures.items()]


def weights_of(models: Models) -> dict[str, npt.NDArray[Any]]:
    """All models' arrays in one flat mapping, per-site ones as ``site/tensor``, for one safetensors file."""
    flat: dict[str, npt.NDArray[Any]] = {}
    for site, weights in models.by_site.items():
        prefix = "" if site == Models.SHARED else f"{site}/"
        flat |= {f"{prefix}{name}": array for name, array in weights.unpack().items()}
    return flat


__all__ = ["Executed", "Weights", "cost_metrics", "execute", "own_predictions", "usage_of", "weights_of"]
