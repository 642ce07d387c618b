"""The judge: sends the trained models to every hospital and collects scores of its test patients.

This is instrumentation of the benchmark (purpose ``evaluation``), not part of any technology.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pettoolkit.arms.exchange import Reply, ask
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
    replies = _asked(grid, spec, models, "predict", "predictions")
    return {
        key: {site: _of_model(reply.arrays, number) for site, reply in replies.items()}
        for number, key in enumerate(keys)
    }


def _fault_of(reply: Reply, models: int) -> str:
    """What is wrong with predictions: something missing, of another length, or no probability or outcome."""
    if missing := [name for name in ("patient", "y", "score") if name not in reply.arrays]:
        return f"array '{missing[0]}' is missing from its predictions"
    y, score = reply.arrays["y"], reply.arrays["score"]
    n = len(y) if y.ndim == 1 else -1
    if score.shape != (models, n) or score.dtype.kind != "f":
        return f"array 'score' has shape {score.shape} for {models} models and outcomes of shape {y.shape}"
    wrong = [name for name, array in reply.arrays.items() if name != "score" and array.shape != (n,)]
    if wrong:
        return f"array '{wrong[0]}' has shape {reply.arrays[wrong[0]].shape}, must be ({n},)"
    if not np.isin(y, (0, 1)).all() or (n and (score.min() < 0 or score.max() > 1)):
        return "its predictions hold outcomes that are not 0 or 1, or scores that are no probabilities"
    return ""


def summaries(grid: MeteredGrid, spec: RunSpec, models: Models) -> dict[str, dict[str, dict[str, float]]]:
    """Every model's figures at every hospital, from hospitals that give no rows: what they hold back is not there.

    Returns
    -------
    dict
        Model's key to site to figure to value.
    """
    replies = _asked(grid, spec, models, "summarise", "metrics")
    return {
        key: {site: _figures(reply.figures, f"{number}/") for site, reply in replies.items()}
        for number, key in enumerate(sorted(models.by_site))
    }


def _asked(grid: MeteredGrid, spec: RunSpec, models: Models, action: str, wants: str) -> dict[str, Reply]:
    """Send all models, numbered in order of their keys, to all hospitals."""
    keys = sorted(models.by_site)
    arrays = {
        f"{number}/{name}": value
        for number, key in enumerate(keys)
        for name, value in models.by_site[key].unpack().items()
    }
    return ask(
        grid,
        spec,
        action,
        "evaluation",
        wants=wants,
        sites=(*spec.sites, *spec.unseen),
        kind="model",
        arrays=arrays,
        extra={"models": len(keys)},
        fault=(lambda reply: _fault_of(reply, len(keys))) if wants == "predictions" else None,
    )


def _figures(named: Mapping[str, float], prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): value for name, value in named.items() if name.startswith(prefix)}


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
