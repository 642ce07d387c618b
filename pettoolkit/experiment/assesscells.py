"""The documents of a finished cell that released a table, in the shape that `declare` and `attack` write."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from pettoolkit.arms.common import contract_of
from pettoolkit.attacks.verdict import thresholds
from pettoolkit.experiment.assess import flat
from pettoolkit.experiment.quality import ARTIFACT
from pettoolkit.experiment.released import MARK, TABLE
from pettoolkit.records import Guarantee, MeasuredRisk, RunResult, to_json
from pettoolkit.report.standard.given import Given, tables

if TYPE_CHECKING:
    from pettoolkit.experiment.config import ExperimentConfig
    from pettoolkit.tracking.store import Store

Json = dict[str, Any]

SOURCES: Mapping[str, str] = {"synthetic_records": "synthetic", "anonymised_records": "anonymised"}
SETTINGS = ("arm", "options", "seed", "dp", "sites", "unseen", "patients_per_site", "features", "model")
"""Fields of a cell that say how its table was made and judged."""

HELD_BACK = ("synthetic/filter/exact", "synthetic/filter/close")
"""Metrics of a cell: rows that hospitals held back because they equalled a patient's, or were too close to one."""


@dataclass(frozen=True)
class GivenCell:
    """What is known about a cell's table, its run, and the folder for its reports."""

    given: Given
    run_id: str
    folder: str


def given_cells(config: ExperimentConfig, store: Store, people: Mapping[str, Any]) -> list[GivenCell]:
    """All finished cells that released a table, in the order of the file."""
    from pettoolkit.experiment import runner

    found = []
    for cell in runner.show(config).cells:
        if cell.result is None or cell.run_id is None:
            continue
        rows, mark = store.artifact(cell.run_id, TABLE), store.artifact(cell.run_id, MARK)
        if rows is None or mark is None:
            continue
        declared = store.artifact(cell.run_id, ARTIFACT)
        given = given_of(cell.result, rows, json.loads(mark), declared, people)
        spec = cell.result.spec
        plain = "_".join([spec.arm, *spec.variant.replace("=", "").split(), spec.model.name, f"seed{spec.seed}"])
        found.append(GivenCell(given, cell.run_id, f"{plain}-{cell.run_id[:8]}"))
    return found


def given_of(
    result: RunResult, rows: bytes, mark: Mapping[str, Any], declared: bytes | None, people: Mapping[str, Any]
) -> Given:
    """Put together what a cell knows about its table.

    Parameters
    ----------
    rows, mark, declared
        The cell's artifacts: the table's file, what it is marked with, and its declaration where it has one.
    """
    name, digest = PurePath(TABLE).name, hashlib.sha256(rows).hexdigest()
    measured = result.privacy.measured
    quality = None if declared is None else _named(json.loads(declared), name, digest)
    risk = _risk(result, measured, mark, name, digest) if isinstance(measured, MeasuredRisk) else None
    settings = flat({key: to_json(result.spec)[key] for key in SETTINGS})
    filtered = {k.partition("/")[2]: f"{v:g}" for k, v in result.metrics.items() if k in HELD_BACK}
    own = {**people, "settings": {**settings, **filtered}}
    guarantee = result.privacy.guarantee
    if quality is None and risk is None:
        given = Given(name, int(mark["rows"]), digest, None, None, None, None, **own)
    else:
        given = tables(quality, risk, **own)[0]
    return dataclasses.replace(given, guarantee=to_json(guarantee) if isinstance(guarantee, Guarantee) else None)


def _named(document: Json, name: str, digest: str) -> Json:
    """A cell's declaration with the name and the hash of the file that its rows were written to."""
    return {**document, "candidates": [{**document["candidates"][0], "name": name, "sha256": digest}]}


def _risk(result: RunResult, measured: MeasuredRisk, mark: Mapping[str, Any], name: str, digest: str) -> Json:
    contract = contract_of(result.spec)
    written = result.spec.risk.get("thresholds") or {}
    figures = [to_json(f) for f in measured.figures if f.view == "release"]
    release = {
        "name": name,
        "source": SOURCES.get(str(mark["kind"]), "synthetic"),
        "rows": int(mark["rows"]),
        "figures": figures,
        "not_run": dict(measured.not_run),
        "verdict": to_json(measured.verdict_release),
        "notes": [],
        "sha256": {name: digest},
    }
    return {
        "releases": [release],
        "anchors": {},
        "left_out": {},
        "people": None,
        "effort": result.spec.attacks,
        "seed": result.spec.seed,
        "columns": {
            "quasi_identifiers": [c.name for c in contract.quasi_identifiers],
            "sensitive": [c.name for c in contract.columns if c.sensitive],
        },
        "thresholds": {key: dataclasses.asdict(t) for key, t in thresholds(written).items()},
    }
