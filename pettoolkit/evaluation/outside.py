"""The judge: sends the trained models to every hospital and collects scores of its test patients.

This is instrumentation of the benchmark (purpose ``evaluation``), not part of any technology.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pettoolkit.arms.exchange import ask
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.evaluation.subgroups import age_bands
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.records import Models, RunSpec

PREFIX = "subgroup/"


def score(grid: MeteredGrid, spec: RunSpec, models: Models) -> dict[str, dict[str, SitePredictions]]:
    """Every model's scores at every hospital, seen or unseen.

    Returns
    -------
    dict
        Model's key (a training site, or ``*`` for the shared model) to site to predictions.
    """
    keys = sorted(models.by_site)
    arrays = {
        f"{number}/{name}": value
        for number, key in enumerate(keys)
        for name, value in models.by_site[key].unpack().items()
    }
    replies = ask(
        grid,
        spec,
        "predict",
        "evaluation",
        wants="predictions",
        sites=(*spec.sites, *spec.unseen),
        kind="model",
        arrays=arrays,
        extra={"models": len(keys)},
    )
    return {
        key: {site: _of_model(reply.arrays, number) for site, reply in replies.items()}
        for number, key in enumerate(keys)
    }


def _of_model(arrays: Mapping[str, npt.NDArray[np.generic]], number: int) -> SitePredictions:
    groups = {
        name.removeprefix(PREFIX): _labels(name.removeprefix(PREFIX), levels)
        for name, levels in arrays.items()
        if name.startswith(PREFIX)
    }
    return SitePredictions(arrays["patient"], arrays["y"], arrays["score"][number], groups)


def _labels(column: str, levels: npt.NDArray[np.generic]) -> npt.NDArray[np.str_]:
    if column.lower() != "age":
        return levels.astype(np.str_)
    labels: npt.NDArray[np.str_] = np.array(age_bands())[levels.astype(int)]
    return labels
