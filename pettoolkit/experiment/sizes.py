"""What the hospitals' sizes say about a budget, before anything runs: a delta must be below one over the patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from pettoolkit.cohort.source import Cohort
from pettoolkit.cohort.tablechecks import PERIOD
from pettoolkit.errors import BadInput, Refused
from pettoolkit.experiment.cells import Cell
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.hospital.splits import split_patients
from pettoolkit.privacy import conditions
from pettoolkit.records import RunSpec

COORDINATORS = ("pooled",)
"""Arms whose ledger is the coordinator's, over the patients of all hospitals."""


def without_large_deltas(config: ExperimentConfig, cells: Sequence[Cell], cohort: Cohort) -> tuple[Cell, ...]:
    """Exclude cells whose delta a hospital would refuse once it is asked.

    Raises
    ------
    BadInput
        If the delta is written for all cells, and not one value of the matrix.
    """
    private = [c for c in cells if c.excluded is None and c.spec.dp is not None and c.spec.dp.target == "patients"]
    if not private:
        return tuple(cells)
    counts = training_patients(cohort)
    reasons = {id(c): reason for c in private if (reason := _too_large(c.spec, counts)) is not None}
    if reasons and "dp.delta" not in config.matrix:
        raise BadInput([config.finding(("dp", "delta"), next(iter(reasons.values())))])
    return tuple(replace(c, excluded=f"dp.delta: {reasons[id(c)]}") if id(c) in reasons else c for c in cells)


def training_patients(cohort: Cohort) -> dict[str, int]:
    """Training patients of each hospital: the same number for every seed and salt, which only say who they are."""
    patient, outcome = cohort.contract.named("patient_id"), cohort.contract.outcome.name
    counts = {}
    for name, hospital in cohort.hospitals.items():
        rows = hospital.rows
        ids = np.arange(len(rows)).astype(str) if patient is None else rows[patient].astype(str).to_numpy()
        ids = ids.astype(object)
        tested = None if cohort.contract.split is None else (rows[PERIOD] == "test").to_numpy()
        train = split_patients(ids, rows[outcome].to_numpy(), 0, tested=tested).train
        counts[name] = len(np.unique(ids[train].astype(str)))
    return counts


def _too_large(spec: RunSpec, counts: Mapping[str, int]) -> str | None:
    """What a hospital would say to this run's delta, or None."""
    if spec.dp is None:
        return None
    most = spec.patients_per_site
    here = [counts[site] if most is None else min(counts[site], most) for site in spec.sites]
    of_all = spec.arm in COORDINATORS or spec.options.get("scope") == "one_on_pooled"
    try:
        conditions.check(spec.dp, sites=len(spec.sites), patients=sum(here) if of_all else max(here))
    except Refused as refused:
        return str(refused).removeprefix("dp.delta: ")
    return None
