"""A saved model as attacks see it: its weights, and from the run's result how it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pettoolkit.attacks.protocol import People
from pettoolkit.attacks.statistics import Bools
from pettoolkit.cohort.contract import Contract
from pettoolkit.errors import BadInput
from pettoolkit.hospital.splits import first_patients, places, split_patients
from pettoolkit.records import Models, Outcome, RunResult, Weights, from_json

if TYPE_CHECKING:
    import pandas as pd

    from pettoolkit.attacks.models.view import ModelView

RESULT = "result.json"

ONE_PLACE = ("pooled", "synthetic", "anonymised")
"""Arms that release one model, whatever the hospitals of the training patients are called."""


LATE, WHOLE = 0.7, 0.1
"""Beyond this place in the order of a run's split stand 30 % of all patients, and hardly one who was trained on: a
table with more than this share of its patients there holds others too."""

UNKNOWN = (
    "all patients of --real are taken as trained on: without ids, or split by date, a run's patients can't be told"
)


def trained(weights: Path, patients: pd.DataFrame, site: npt.NDArray[np.str_], contract: Contract) -> tuple[Bools, str]:
    """Which rows a run trained on, and a note on how that is known (empty: --real holds them and nobody else).

    Patients whom the run tested on, taken as members, would make each attack look weaker than it is. Who hands in whole
    tables gets the run's own split of them.

    Parameters
    ----------
    weights
        As in :func:`view_of`.
    patients, site
        Rows of --real with patient ids, and the hospital of each, (n,).
    """
    spec, name = _result(weights).spec, contract.named("patient_id")
    if name is None or contract.split is not None:
        return np.ones(len(patients), dtype=bool), UNKNOWN
    ids = patients[name].astype(str).to_numpy(dtype=object)
    if (places(ids, spec.seed) > LATE).mean() < WHOLE:
        return np.ones(len(patients), dtype=bool), ""
    chosen = np.zeros(len(patients), dtype=bool)
    for hospital in np.unique(site):
        rows = np.flatnonzero(site == hospital)
        part = rows[split_patients(ids[rows], patients[contract.outcome.name].to_numpy()[rows], spec.seed).train]
        if spec.patients_per_site is not None:
            part = part[first_patients(ids[part], spec.patients_per_site, spec.seed)]
        chosen[part] = True
    return chosen, (
        f"the run trained on {chosen.sum()} of the {len(chosen)} rows of --real (by its split, seed {spec.seed}); "
        "the others are no members and were left out"
    )


def view_of(weights: Path, people: People) -> ModelView:
    """Read a saved model.

    Parameters
    ----------
    weights
        ``weights.safetensors`` of a finished run, with its ``result.json`` beside it.
    people
        Members are the patients that the model was trained on, each with the hospital's name.

    Raises
    ------
    BadInput
        If the files can't be read, or hospitals or columns are not those of the run.
    NotRun
        If no shadow models are known for that training.
    """
    from pettoolkit.arms.common import contract_of
    from pettoolkit.attacks.models.outside import model_view

    arrays, result = _arrays(weights), _result(weights)
    spec = result.spec
    here = sorted(set(people.members.site.tolist()))
    if spec.arm not in ONE_PLACE and here != sorted(spec.sites):
        raise BadInput(
            f"--real: its hospitals are {', '.join(here)}, those that trained {', '.join(sorted(spec.sites))} "
            "(one file per hospital, named after it)"
        )
    contract = contract_of(spec)
    columns = [c.name for c in (*contract.feature_columns, contract.outcome)]
    if absent := [name for name in columns if name not in people.members.rows.columns]:
        raise BadInput(f"--real: columns that the model was trained on are absent: {', '.join(absent)}")
    outcome = Outcome(Models(_by_site(arrays)), result.privacy, result.exposure, result.cost)
    return model_view(spec, outcome, people)


def _arrays(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise BadInput(f"{path}: can't be read as weights of a run ({error})") from None


def _result(weights: Path) -> RunResult:
    beside = weights.with_name(RESULT)
    try:
        return from_json(RunResult, json.loads(beside.read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(
            f"{beside}: can't be read ({error}); it says how the model was trained, and must be beside its weights"
        ) from None


def _by_site(arrays: dict[str, Any]) -> dict[str, Weights]:
    """The models of a file: ``site/tensor`` where each hospital has its own."""
    split: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        site, _, tensor = name.rpartition("/")
        split.setdefault(site or Models.SHARED, {})[tensor] = array
    return {site: Weights.of(tensors) for site, tensors in split.items()}
