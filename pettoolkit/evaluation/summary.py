"""Several seeds of one variant, judged together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pettoolkit.evaluation.intervals import Estimate, MeanSiteAuroc, Predictions, bootstrap_mean_site_auroc
from pettoolkit.evaluation.predictions import from_bytes
from pettoolkit.records import Interval, NotMeasured, RunResult, Summary


def summary_of(
    results: Sequence[RunResult],
    predictions: Sequence[bytes],
    bootstrap: Callable[[Sequence[Predictions], Sequence[str] | None], MeanSiteAuroc] = bootstrap_mean_site_auroc,
) -> Summary:
    """Mean and SD over seeds of each metric, with one interval over patients and seeds together.

    AUROC, its worst hospital and its spread are those of the hospitals' means over seeds: the mean of
    the seeds' worst hospitals would be lower than any hospital.

    Parameters
    ----------
    results
        One variant's cells, a seed each.
    predictions
        Their files of predictions, in the same order.
    """
    spec = results[0].spec
    runs = [
        from_bytes(data, where=f"predictions of seed {r.spec.seed}")
        for r, data in zip(results, predictions, strict=True)
    ]
    seen = [site for site in dict.fromkeys(s for run in runs for s in run) if site not in spec.unseen]
    names = sorted({name for r in results for name in r.metrics})
    values = {name: [r.metrics[name] for r in results if name in r.metrics] for name in names}
    mean = {name: float(np.mean(v)) for name, v in values.items()}
    together = bootstrap([{s: p for s, p in run.items() if s not in spec.unseen} for run in runs], seen)
    unseen = bootstrap([{s: p for s, p in run.items() if s in spec.unseen} for run in runs], list(spec.unseen))
    estimates: dict[str, Estimate | NotMeasured] = {
        "utility/auroc": together.mean,
        "robustness/auroc_worst_site": together.worst,
        **{f"site/{site}/auroc": e for site, e in together.per_site.items()},
    }
    mean |= {name: e.value for name, e in estimates.items() if isinstance(e, Estimate)}
    if isinstance(together.site_sd, float):
        mean["robustness/auroc_site_sd"] = together.site_sd
    intervals = {
        n: e.interval for n, e in estimates.items() if isinstance(e, Estimate) and isinstance(e.interval, Interval)
    }
    # Per-site models: the file holds their mean score there, the metric is the mean of their AUROCs.
    shared = isinstance(results[0].cross_site, NotMeasured)
    if shared and isinstance(unseen.mean, Estimate) and isinstance(unseen.mean.interval, Interval):
        intervals["robustness/auroc_unseen_site"] = unseen.mean.interval
    if "utility/auroc" in intervals:
        mean |= {
            "utility/auroc_low": intervals["utility/auroc"].low,
            "utility/auroc_high": intervals["utility/auroc"].high,
        }
    return Summary(
        spec=spec,
        seeds=tuple(r.spec.seed for r in results),
        mean=mean,
        sd={name: float(np.std(v, ddof=1)) for name, v in values.items() if len(v) > 1},
        intervals=intervals,
        worst_site=together.worst_site,
    )
