"""Inside a hospital: score the judge's models on its own test patients (purpose ``evaluation``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.errors import Refused
from pettoolkit.evaluation.subgroups import AGE_BANDS
from pettoolkit.hospital.envelope import Envelope, Scores
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.models.predictor import predictor


def predict(site: Site, request: Request) -> Envelope:
    """Scores of all models on this hospital's test patients.

    ``request.arrays`` holds the models as ``{number}/{tensor}``, numbered from 0. The answer has
    ``patient`` (number of the patient's first row in the hospital's own table), ``y``, ``score`` of shape
    (models, n), and one array of small integers per subgroup column.
    """
    spec = request.spec
    rows = site.part(spec, "test")
    model = predictor(spec.model, rows.x.shape[1])
    sent = [_numbered(request.arrays, number) for number in range(int(request.extra["models"]))]
    for arrays in sent:
        try:
            model.check(arrays)
        except ValueError as error:
            raise Refused(f"hospital {site.name}: the model that was sent can't be used ({error})") from None
    index = site.index(spec, "test")
    answer: dict[str, npt.NDArray[np.generic]] = {
        "patient": site.numbers(index),
        "y": rows.y.numpy().astype(np.int8),
        "score": np.stack([model.scores(arrays, rows.x) for arrays in sent]),
    }
    return Envelope("predictions", "evaluation", Scores(answer | _subgroups(site, index)))


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


HANDLERS = {"predict": predict}
