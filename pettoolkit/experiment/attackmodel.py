"""A saved model as attacks see it: its weights, and from the run's result how it was trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pettoolkit.attacks.protocol import People
from pettoolkit.errors import BadInput
from pettoolkit.records import Models, Outcome, RunResult, Weights, from_json

if TYPE_CHECKING:
    from pettoolkit.attacks.models.view import ModelView

RESULT = "result.json"

ONE_PLACE = ("pooled", "synthetic", "anonymised")
"""Arms that release one model, whatever the hospitals of the training patients are called."""


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
