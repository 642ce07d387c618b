"""Inside a hospital: score the judge's models on its own test patients (purpose ``evaluation``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.errors import Refused
from pettoolkit.evaluation.aggregated import figures_of
from pettoolkit.evaluation.predictions import SitePredictions
from pettoolkit.evaluation.subgroups import AGE_BANDS
from pettoolkit.hospital.envelope import Envelope, Figures, Scores
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.hospital.store import once
from pettoolkit.models.predictor import predictor
from pettoolkit.records import Weights, digest_of, to_json


def predict(site: Site, request: Request) -> Envelope:
    """Scores of all models on this hospital's test patients.

    ``request.arrays`` holds the models as ``{number}/{tensor}``, numbered from 0. The answer has
    ``patient`` (number of the patient's first row in the hospital's own table), ``y``, ``score`` of shape
    (models, n), and one array of small integers per subgroup column.
    """
    index, y, scores = _scored(site, request)
    answer: dict[str, npt.NDArray[np.generic]] = {"patient": site.numbers(index), "y": y, "score": scores}
    return Envelope("predictions", "evaluation", Scores(answer | _subgroups(site, index)))


def summarise(site: Site, request: Request) -> Envelope:
    """Figures of all models over this hospital's test patients, and no row: what a deployed hospital answers with.

    The answer has ``{number}/{figure}``; a figure from which a group of fewer than ten patients could be told is not
    in it (:func:`figures_of`). A run is judged once: figures of many models that differ a little would tell of one
    patient after the other.
    """
    spec = request.spec
    sent = digest_of(to_json(Weights.of(dict(request.arrays))))
    name = f"{spec.run_id}/judged"
    with site.store.lock(name):
        first = once(site.store, name, sent.encode).decode()
    if sent != first:
        raise Refused(f"hospital {site.name}: this run was judged before, with another model")
    index, y, scores = _scored(site, request)
    found: dict[str, float] = {}
    for number, score in enumerate(scores):
        predictions = SitePredictions(site.numbers(index), y, score)
        told = figures_of(predictions, site.contract.prevalence)
        found |= {f"{number}/{figure}": value for figure, value in told.items()}
    return Envelope("metrics", "evaluation", Figures(found))


def _scored(
    site: Site, request: Request
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int8], npt.NDArray[np.floating[Any]]]:
    """Index and outcome of the test rows, and every model's scores of them, shape (models, n)."""
    spec = request.spec
    rows = site.part(spec, "test")
    model = predictor(spec.model, rows.x.shape[1])
    sent = [_numbered(request.arrays, number) for number in range(int(request.extra["models"]))]
    for arrays in sent:
        try:
            model.check(arrays)
        except ValueError as error:
            raise Refused(f"hospital {site.name}: the model that was sent can't be used ({error})") from None
    scores = np.stack([model.scores(arrays, rows.x) for arrays in sent])
    return site.index(spec, "test"), rows.y.numpy().astype(np.int8), scores


def _numbered(arrays: Mapping[str, npt.NDArray[Any]], number: int) -> dict[str, npt.NDArray[Any]]:
    prefix = f"{number}/"
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _subgroups(site: Site, index: npt.NDArray[np.intp]) -> dict[str, npt.NDArray[np.generic]]:
    """Age bands and binary or categorical quasi-identifiers, as level numbers (-1: missing)."""
    out: dict[str, npt.NDArray[np.generic]] = {}
    for column in site.contract.quasi_identifiers:
        values = site.rows[column.name].iloc[index]
        if column.name.lower() == "age":
            out[f"subgroup/{column.name}"] = np.digitize(values.to_numpy(dtype=np.float64), AGE_BANDS).astype(np.int8)
        elif column.kind == "binary":
            out[f"subgroup/{column.name}"] = values.fillna(-1).to_numpy(dtype=np.int8)
        elif column.kind == "category":
            levels = {level: number for number, level in enumerate(column.levels)}
            out[f"subgroup/{column.name}"] = np.array([levels.get(str(v), -1) for v in values], dtype=np.int8)
    return out


HANDLERS = {"predict": predict, "summarise": summarise}
