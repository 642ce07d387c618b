"""What a person should know about an experiment's data before and after a run, in one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.source import Cohort
from pettoolkit.cohort.tablechecks import PERIOD
from pettoolkit.cohort.tables import DEFAULT_CONTRACT
from pettoolkit.cohort.yamlfile import parse
from pettoolkit.errors import BadInput
from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.records import RunSpec

DEFAULT_THRESHOLD = 0.5
"""Score from which a patient counts as an alarm where the contract publishes no prevalence."""

NO_PREVALENCE = (
    "prevalence is blank: alarms (accuracy, precision, sensitivity, F1) are counted from a score of "
    f"{DEFAULT_THRESHOLD} on, which few patients reach where the outcome is rare; fill in a published share, never the "
    "data's own"
)


def threshold_of(contract: Mapping[str, object]) -> float:
    """Alarm threshold of a resolved contract: its public prevalence, or :data:`DEFAULT_THRESHOLD`."""
    published = contract.get("prevalence")
    return float(published) if isinstance(published, int | float) and published else DEFAULT_THRESHOLD


def contract_notes(spec: RunSpec) -> tuple[str, ...]:
    """Notes of a cell about its contract."""
    return () if spec.contract.get("prevalence") else (f"contract: {NO_PREVALENCE}",)


def file_notes(config: ExperimentConfig) -> list[str]:
    """Notes on an experiment's contract file, as ``file: note``; what is wrong with the file is said elsewhere."""
    path = _contract_file(config)
    if path is None or not path.is_file():
        return []
    try:
        contract = parse(Contract, path)
    except BadInput:
        return []
    return [] if contract.prevalence is not None else [f"{path}: {NO_PREVALENCE}"]


DROPPED = "went on without hospital"
"""How a note begins that says which hospital a cell's figures are not about."""


def shown_notes(reports: Sequence[CellReport]) -> list[str]:
    """Notes of finished cells that belong under their table, each once."""
    results = [report.result for report in reports if report.result is not None]
    notes = [note for result in results for note in contract_notes(result.spec)]
    for result in results:
        notes += [
            f"{result.spec.arm} {result.spec.variant} seed {result.spec.seed}: {note}"
            for note in result.notes
            if note.startswith(DROPPED)
        ]
    return list(dict.fromkeys(notes))


def untrainable(cohort: Cohort, specs: Sequence[RunSpec]) -> list[str]:
    """Findings for hospitals that are to train and have nobody to train on: the date split tests all their patients."""
    split = cohort.contract.split
    if split is None:
        return []
    trains = {site for spec in specs for site in spec.sites}
    empty = [name for name, h in cohort.hospitals.items() if name in trains and not _before(h.rows)]
    return [
        f"hospital {name}: has no training patients: {split.by} is {split.cut} or later for all of them "
        "(move split.cut of the contract, or name the hospital in evaluation.unseen)"
        for name in empty
    ]


def _before(rows: pd.DataFrame) -> bool:
    return bool((rows[PERIOD] == "train").any())


def _contract_file(config: ExperimentConfig) -> Path | None:
    """The contract that is a file of the user's; None for the package's own."""
    sites = config.sites
    if sites.contract is not None:
        return Path(sites.contract)
    if sites.source != "tables":
        return None
    folder = sites.folder()
    return (folder if folder.is_dir() else folder.parent) / DEFAULT_CONTRACT
