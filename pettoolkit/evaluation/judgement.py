"""One cell's figures, under the names that MLflow and the reports use (DESIGN section 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pettoolkit.evaluation import robustness
from pettoolkit.evaluation.intervals import RESAMPLES, Estimate, MeanSiteAuroc, Predictions, bootstrap_mean_site_auroc
from pettoolkit.evaluation.metrics import LEAST_POSITIVES, SITE_FIGURES, Figure, auroc, mean_of, site_figures
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.evaluation.subgroups import subgroup_auroc
from pettoolkit.records import Interval, NotMeasured

_NOWHERE = NotMeasured("undefined at every site")


@dataclass(frozen=True)
class Evaluation:
    """What the judge found, in the form that a :class:`~pettoolkit.records.RunResult` takes.

    ``metrics`` and ``intervals`` hold what exists; ``undefined`` says for every other metric, and every
    hospital's figure (``site/<name>/<figure>``), why it doesn't. ``per_site`` has a row per hospital, unseen ones
    included. ``robustness/sites_few_positives`` counts the training hospitals that are left out of the means of
    AUPRC, PPV, F1 and calibration slope for want of positives.
    """

    metrics: Mapping[str, float]
    undefined: Mapping[str, NotMeasured]
    intervals: Mapping[str, Interval]
    per_site: Mapping[str, Mapping[str, Figure]]
    subgroups: Mapping[str, Mapping[str, Figure]]


def evaluate(
    predictions: Predictions,
    *,
    threshold: float,
    unseen: Sequence[str] = (),
    foreign: Mapping[str, Predictions] | None = None,
    resamples: int = RESAMPLES,
) -> Evaluation:
    """Judge one cell.

    Parameters
    ----------
    predictions
        Scores per hospital: of the shared model, or of the hospital's own model.
    threshold
        Alarm threshold, the contract's public prevalence: the same for all arms, and no private data
        are read to set it.
    unseen
        Hospitals that did not train. They count in ``robustness/auroc_unseen_site`` only.
    foreign
        For per-site models: ``{train_site: {unseen_site: predictions}}``. An unseen hospital's figures
        are then the means over the models of the others.
    resamples
        Number of resamples of the intervals.

    Notes
    -----
    Every score is the unweighted mean over the hospitals that trained of the value within the
    hospital, except ``utility/auroc_all_rows``, which ranks all their patients together.
    """
    seen = {site: p for site, p in predictions.items() if site not in unseen}
    away = _unseen_runs(predictions, unseen, foreign)
    inside = bootstrap_mean_site_auroc([seen], list(seen), resamples)
    outside = bootstrap_mean_site_auroc(away, list(unseen), resamples)
    estimates = {**inside.per_site, **outside.per_site}
    rows = {site: _row([p], threshold) for site, p in seen.items()}
    rows |= {site: _row([run[site] for run in away if site in run], threshold) for site in unseen}
    found: dict[str, Figure | Estimate] = {**_utility(rows, seen), **_robustness(inside), "utility/auroc": inside.mean}
    found |= {f"utility/auroc_{name}": end for name, end in _ends(inside.mean).items()}
    if unseen:
        found["robustness/auroc_unseen_site"] = outside.mean
    found["robustness/sites_few_positives"] = float(sum(p.positives < LEAST_POSITIVES for p in seen.values()))
    found |= {f"site/{site}/{name}": f for site, row in rows.items() for name, f in _undefined(row).items()}
    found |= {f"site/{site}/auroc": estimate for site, estimate in estimates.items()}
    return Evaluation(
        metrics={
            k: f.value if isinstance(f, Estimate) else f for k, f in found.items() if not isinstance(f, NotMeasured)
        },
        undefined={k: f for k, f in found.items() if isinstance(f, NotMeasured)},
        intervals={
            k: f.interval for k, f in found.items() if isinstance(f, Estimate) and isinstance(f.interval, Interval)
        },
        per_site={
            site: row | {f"auroc_{name}": end for name, end in _ends(estimates[site]).items()}
            for site, row in rows.items()
        },
        subgroups=subgroup_auroc(seen.values()),
    )


def _unseen_runs(
    predictions: Predictions, unseen: Sequence[str], foreign: Mapping[str, Predictions] | None
) -> list[Predictions]:
    models = [predictions] if foreign is None else list(foreign.values())
    return [{site: model[site] for site in unseen if site in model} for model in models]


def _row(models: list[SitePredictions], threshold: float) -> dict[str, Figure]:
    """Figures of one hospital, means over ``models``, with its counts of test patients."""
    each = [site_figures(p, threshold) for p in models]
    row = {name: _over([figures[name] for figures in each]) for name in SITE_FIGURES}
    counts = models[0] if models else None
    return row | {
        "patients": float(counts.patients) if counts else 0.0,
        "positives": float(counts.positives) if counts else 0.0,
    }


def _undefined(row: Mapping[str, Figure]) -> dict[str, Figure]:
    return {name: figure for name, figure in row.items() if isinstance(figure, NotMeasured)}


def _over(figures: list[Figure]) -> Figure:
    """Mean of what exists, or why nothing does."""
    reasons = [f for f in figures if isinstance(f, NotMeasured)]
    return mean_of(figures, otherwise=reasons[0] if len(reasons) == 1 else _NOWHERE)


def _utility(rows: Mapping[str, Mapping[str, Figure]], seen: Predictions) -> dict[str, Figure]:
    found = {f"utility/{name}": _over([rows[site][name] for site in seen]) for name in SITE_FIGURES if name != "auroc"}
    y = np.concatenate([p.y for p in seen.values()]) if seen else np.empty(0)
    score = np.concatenate([p.score for p in seen.values()]) if seen else np.empty(0)
    value = auroc(y, score)
    return found | {"utility/auroc_all_rows": _NOWHERE if isinstance(value, NotMeasured) else value}


def _robustness(inside: MeanSiteAuroc) -> dict[str, Figure | Estimate]:
    values: dict[str, Figure] = {s: e if isinstance(e, NotMeasured) else e.value for s, e in inside.per_site.items()}
    return {
        "robustness/auroc_worst_site": inside.worst,
        "robustness/auroc_site_sd": inside.site_sd,
        "robustness/sites_undefined": float(robustness.sites_undefined(values)),
    }


def _ends(estimate: Estimate | NotMeasured) -> dict[str, Figure]:
    """Both ends of an interval, or why there is none."""
    found = estimate if isinstance(estimate, NotMeasured) else estimate.interval
    if isinstance(found, NotMeasured):
        return {"low": found, "high": found}
    return {"low": found.low, "high": found.high}
