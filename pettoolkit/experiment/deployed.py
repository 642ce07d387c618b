"""Cells that real hospitals train (``engine: flower``): who they are, and what is recorded of figures without rows.

The coordinator has no table. It knows the hospitals' names and the contract, and gets from each hospital figures over
its own test patients: no intervals, no subgroups, and no attack, which would need rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pettoolkit.cohort.source import Cohort, Hospital
from pettoolkit.cohort.tables import resolved
from pettoolkit.deployment.folders import Coordinator, Federation, party_of
from pettoolkit.errors import BadInput, EngineFailed
from pettoolkit.evaluation.metrics import SITE_FIGURES
from pettoolkit.experiment.execute import Executed, cost_metrics, dropped_notes
from pettoolkit.experiment.notes import contract_notes
from pettoolkit.records import Models, NotMeasured, RunResult, RunSpec, digest_of

if TYPE_CHECKING:
    from pettoolkit.deployment.coordinator import Deployed
    from pettoolkit.experiment.config import ExperimentConfig

ENGINE = "flower"

NO_ROWS = NotMeasured("deployed hospitals give no rows: measure the risk on simulated patients, or each on its own")
HELD_BACK = NotMeasured("held back by the hospital: it would tell of fewer than ten patients")
ONE_MODEL = NotMeasured("one model is shared by all hospitals")


def cohort_of(config: ExperimentConfig) -> Cohort:
    """The deployed hospitals as a coordinator knows them: names and contract, and tables without a row.

    Raises
    ------
    BadInput
        If no deployment is named, or it is the folder of no party.
    """
    if config.deployment is None:
        raise BadInput(
            [config.finding(("deployment",), "is missing (engine: flower needs the folder of a party of a deployment)")]
        )
    party = party_of(Path(config.deployment))
    federation = party.federation
    names = config.sites.include or federation.hospitals
    if unknown := sorted(set(names) - set(federation.hospitals)):
        known = ", ".join(federation.hospitals)
        raise BadInput(
            [config.finding(("sites", "include"), f"{n} is not deployed (there are {known})") for n in unknown]
        )
    rows = pd.DataFrame()
    hospitals = {name: Hospital(name, rows, identity(federation, name)) for name in sorted(names)}
    return Cohort(resolved(party.contract), hospitals, "deployed")


def identity(federation: Federation, hospital: str) -> str:
    """Stands for a table that nobody outside has seen: a cell counts as finished for this deployment alone."""
    return digest_of(["deployed", federation.id, hospital])


def execute(config: ExperimentConfig, spec: RunSpec, config_hash: str) -> Executed:
    """Run one cell over the deployed hospitals.

    Raises
    ------
    BadInput
        If the deployment's folder is not the coordinator's.
    Refused, EngineFailed
        As :func:`pettoolkit.deployment.submit.run`.
    """
    from pettoolkit.deployment import submit

    found = submit.run(Coordinator(Path(config.deployment or "")), spec)
    return Executed(result_of(spec, config_hash, found), {}, found.outcome.models, {}, found.outcome.released_table)


def carried_out(config: ExperimentConfig, spec: RunSpec, config_hash: str) -> Executed | str:
    """As :func:`execute`, or why the cell failed.

    Raises
    ------
    EngineFailed
        If the SuperLink can't be used.
    """
    from pettoolkit.experiment.outcome import why_failed

    try:
        return execute(config, spec, config_hash)
    except EngineFailed:
        raise
    except Exception as error:
        return why_failed(error)


def result_of(spec: RunSpec, config_hash: str, found: Deployed) -> RunResult:
    """The record of a deployed cell.

    Scores are unweighted means over the hospitals that trained, as ever; of hospitals with models of their own each
    counts with its own, and an unseen hospital with the mean over the others' models.
    """
    outcome, sites = found.outcome, (*spec.sites, *spec.unseen)
    each = {site: _at(found.figures, site) for site in sites}
    return RunResult(
        spec=spec,
        config_hash=config_hash,
        metrics={
            **metrics_of(spec, each),
            **cost_metrics(outcome.cost, outcome.exposure, spec),
            **outcome.encryption,
            **outcome.figures,
            **({"robustness/sites_dropped": float(len({d.site for d in found.drops}))} if found.drops else {}),
        },
        intervals={},
        per_site={site: {n: row.get(n, HELD_BACK) for n in (*SITE_FIGURES, *COUNTS)} for site, row in each.items()},
        cross_site=ONE_MODEL if outcome.models.shared else NO_ROWS,
        subgroups={},
        privacy=replace(outcome.privacy, measured=NO_ROWS),
        exposure=outcome.exposure,
        cost=outcome.cost,
        round_metrics=outcome.round_metrics,
        coefficients=outcome.coefficients,
        notes=(*dropped_notes(found.drops), *outcome.notes, *contract_notes(spec), *_notes(each)),
    )


COUNTS = ("patients", "positives")


def metrics_of(spec: RunSpec, each: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Figures of the hospitals together, under the names that every cell has."""
    found: dict[str, float] = {}
    for name in SITE_FIGURES:
        values = [each[site][name] for site in spec.sites if name in each[site]]
        if values:
            found[f"utility/{name}"] = float(np.mean(values))
    ranked = [each[site]["auroc"] for site in spec.sites if "auroc" in each[site]]
    if ranked:
        found["robustness/auroc_worst_site"] = min(ranked)
    if len(ranked) > 1:
        found["robustness/auroc_site_sd"] = float(np.std(ranked, ddof=1))
    found["robustness/sites_undefined"] = float(len(spec.sites) - len(ranked))
    away = [each[site]["auroc"] for site in spec.unseen if "auroc" in each[site]]
    if away:
        found["robustness/auroc_unseen_site"] = float(np.mean(away))
    return found | {f"site/{site}/auroc": row["auroc"] for site, row in each.items() if "auroc" in row}


def _at(figures: Mapping[str, Mapping[str, Mapping[str, float]]], site: str) -> dict[str, float]:
    """Figures at a hospital: of the shared model, of its own, or the means over the others'."""
    for key in (Models.SHARED, site):
        if key in figures:
            return dict(figures[key].get(site, {}))
    models: Sequence[Mapping[str, float]] = [tests.get(site, {}) for tests in figures.values()]
    names = set.intersection(*(set(m) for m in models)) if models else set()
    return {name: float(np.mean([m[name] for m in models])) for name in names}


def _notes(each: Mapping[str, Mapping[str, float]]) -> list[str]:
    silent = sorted(site for site, row in each.items() if not row)
    return [f"{', '.join(silent)}: no figures (fewer than ten test patients of one outcome)"] if silent else []
