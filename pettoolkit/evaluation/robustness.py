"""How a score differs between hospitals: worst, spread, and models carried to other hospitals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pettoolkit.evaluation.metrics import NOBODY, Figure, auroc
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.records import NotMeasured


def worst_site(by_site: Mapping[str, Figure]) -> str | NotMeasured:
    """Name of the hospital with the lowest figure (the first of equals); undefined ones don't count."""
    known = {site: f for site, f in by_site.items() if not isinstance(f, NotMeasured)}
    if not known:
        return NotMeasured("undefined at every site")
    return min(known, key=lambda site: known[site])


def site_sd(by_site: Mapping[str, Figure]) -> Figure:
    """Sample standard deviation (n - 1) over hospitals; it contains the noise of each site's figure."""
    known = [f for f in by_site.values() if not isinstance(f, NotMeasured)]
    if len(known) < 2:
        return NotMeasured("undefined: a spread needs two sites with a figure")
    return float(np.std(known, ddof=1))


def sites_undefined(by_site: Mapping[str, Figure]) -> int:
    """Count the hospitals without a figure."""
    return sum(isinstance(f, NotMeasured) for f in by_site.values())


def cross_site(predictions: Mapping[str, Mapping[str, SitePredictions]]) -> dict[str, dict[str, Figure]]:
    """AUROC of each hospital's own model (rows: trained at) on each hospital (columns: tested at).

    Parameters
    ----------
    predictions
        ``{train_site: {test_site: predictions}}``.
    """
    return {
        train: {test: auroc(p.y, p.score) if p.patients else NOBODY for test, p in tests.items()}
        for train, tests in predictions.items()
    }
