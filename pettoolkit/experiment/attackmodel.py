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
from pettoolkit.hospital.splits import TEST, TRAIN, VALIDATION, first_patients, places
from pettoolkit.records import Models, Outcome, RunResult, RunSpec, Weights, from_json

if TYPE_CHECKING:
    import pandas as pd

    from pettoolkit.attacks.models.view import ModelView

RESULT = "result.json"

ONE_PLACE = ("pooled", "synthetic", "anonymised")
"""Arms that release one model, whatever the hospitals of the training patients are called."""

ENDS = (TRAIN, TRAIN + VALIDATION, TRAIN + VALIDATION + TEST, 1.0)
"""Where parts end in the order of a run's split: --real holds the patients up to one of them."""

UNKNOWN = (
    "all patients of --real are taken as trained on: without ids, or split by date, a run's patients can't be told"
)
SALTED = (
    "all patients of --real are taken as trained on: deployed hospitals split by a secret of their own, so that the "
    "run's patients can't be told from outside"
)


def trained(weights: Path, patients: pd.DataFrame, site: npt.NDArray[np.str_], contract: Contract) -> tuple[Bools, str]:
    """Which rows a run trained on, and a note on how that is known.

    Patients whom the run tested on, taken as members, would make each attack look weaker than it is. Who hands in whole
    tables gets the run's own split of them. The note is empty only where the run's order puts every patient of --real
    into the training part of a hospital that trained.

    Parameters
    ----------
    weights
        As in :func:`view_of`.
    patients, site
        Rows of --real with patient ids, and the hospital of each, (n,).

    Raises
    ------
    BadInput
        If no row is of a hospital that trained.
    """
    result, name = _result(weights), contract.named("patient_id")
    spec = result.spec
    chosen, told_apart, notes = _of_training_hospitals(spec, site)
    most = spec.patients_per_site
    if _salted(result) or name is None or contract.split is not None:
        notes.append(SALTED if _salted(result) else UNKNOWN)
        if most is not None:
            notes.append(f"of each hospital the run took no more than {most}: hand in those alone")
        return chosen, "; ".join(notes)
    ids, given = patients[name].astype(str).to_numpy(dtype=object), chosen.copy()
    place = places(ids, spec.seed)
    end = _end(ids[given], place[given], 2 * len(spec.sites))
    if end > TRAIN:
        outcome = patients[contract.outcome.name].to_numpy()
        for hospital in np.unique(site[given]):
            rows = np.flatnonzero(given & (site == hospital))
            chosen[rows] = _first_share(ids[rows], outcome[rows], place[rows], TRAIN / end)
    elif late := int((place[given] > TRAIN).sum()):
        notes.append(
            f"{late} of {given.sum()} rows stand beyond the first {TRAIN:.0%} of the run's order (seed {spec.seed}), "
            "no more than chance puts of its training patients there: they are taken as trained on like the others"
        )
    if most is not None:
        group, n = (site, most) if told_apart else (np.full(len(site), "all"), most * len(spec.sites))
        for hospital in np.unique(group[chosen]):
            rows = np.flatnonzero(chosen & (group == hospital))
            chosen[rows] = first_patients(ids[rows], n, spec.seed)
    if not np.array_equal(chosen, given):
        limit = f" and {most} patients of each hospital" if most is not None else ""
        notes.append(
            f"the run trained on about {chosen.sum()} of the {given.sum()} rows of --real (by its split, seed "
            f"{spec.seed}{limit}); the others are no members and were left out"
        )
    if notes and not told_apart and len(spec.sites) > 1:
        notes.append("--real does not tell hospitals apart (one file for each, named after it), so that this is rough")
    return chosen, "; ".join(notes)


def _of_training_hospitals(spec: RunSpec, site: npt.NDArray[np.str_]) -> tuple[Bools, bool, list[str]]:
    """Rows of hospitals that trained, whether the names of tables tell hospitals apart, and what to say of it."""
    names = set(site.tolist())
    told_apart = bool(names & {*spec.sites, *spec.unseen})
    if not told_apart:
        unseen = ", ".join(spec.unseen)
        said = f"rows of {unseen}, where the run did not train, can't be told and must not be in --real"
        return np.ones(len(site), dtype=bool), False, [said] if unseen else []
    others = sorted(n for n in names - {*spec.sites} if n in spec.unseen or spec.arm in ONE_PLACE)
    chosen: Bools = ~np.isin(site, others)
    if not chosen.any():
        raise BadInput(f"--real: its hospitals are {', '.join(others)}, those that trained {', '.join(spec.sites)}")
    said = f"the run did not train on {', '.join(others)}: {(~chosen).sum()} rows were left out"
    return chosen, True, [said] if others else []


def _salted(result: RunResult) -> bool:
    """Whether the hospitals split by a secret: deployed ones do, whose record says that they give no rows."""
    from pettoolkit.experiment.deployed import NO_ROWS

    return result.privacy.measured == NO_ROWS


def _end(ids: npt.NDArray[np.object_], place: npt.NDArray[np.float64], groups: int) -> float:
    """The end of the last part of which --real holds patients, but for as many as chance may put beyond it.

    The split cuts each of ``groups`` (hospital, outcome) by number, at places that lie about ``end`` with variance
    end (1 - end) / N: beyond it stand .4 standard deviations of patients in each group on average. Three more are
    allowed for.
    """
    _, first = np.unique(ids.astype(str), return_index=True)
    place = place[first]
    for end in ENDS[:-1]:
        everybody = (place <= end).sum() / end
        sd = np.sqrt(end * (1 - end) * everybody)
        if (place > end).sum() <= (0.4 * np.sqrt(groups) + 3 * 0.58) * sd:
            return end
    return ENDS[-1]


def _first_share(
    ids: npt.NDArray[np.object_], outcome: npt.NDArray[np.generic], place: npt.NDArray[np.float64], share: float
) -> Bools:
    """Rows of the first patients of each outcome, as the run's split takes them, shape of ``ids``."""
    _, first, row_patient = np.unique(ids.astype(str), return_index=True, return_inverse=True)
    stratum = np.zeros(len(first), dtype=np.int64)
    np.maximum.at(stratum, row_patient, (outcome == 1).astype(np.int64))
    chosen = np.zeros(len(first), dtype=bool)
    for value in (0, 1):
        members = np.flatnonzero(stratum == value)
        members = members[np.argsort(place[first][members], kind="stable")]
        chosen[members[: int(np.rint(share * len(members)))]] = True
    marked: Bools = chosen[row_patient]
    return marked


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
