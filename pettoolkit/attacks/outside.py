"""The judge's second half: ask hospitals for members and reference patients, and attack what a cell gave away.

This is instrumentation of the benchmark (purpose ``audit``), not part of any technology. Only simulated hospitals
answer; where one does not, the risk is not measured, and the reason stands in its place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from pettoolkit.arms import private
from pettoolkit.arms.common import contract_of
from pettoolkit.arms.encrypted_records.descent import shares
from pettoolkit.arms.exchange import ask
from pettoolkit.arms.released import rows_released
from pettoolkit.attacks.audit import audited
from pettoolkit.attacks.inside import PARTS, PATIENT
from pettoolkit.attacks.insider.outside import held_views, seen_views
from pettoolkit.attacks.insider.views import RAW, HeldView
from pettoolkit.attacks.models.membership import null_findings
from pettoolkit.attacks.models.outside import model_view
from pettoolkit.attacks.protocol import (
    FULL,
    INSIDER,
    QUICK,
    Effort,
    Finding,
    Group,
    NotRun,
    People,
    TableView,
    TooCostly,
    attacks_for,
    run_attacks,
)
from pettoolkit.attacks.tables.anchors import null_row
from pettoolkit.attacks.tables.guarantee import bounded
from pettoolkit.attacks.verdict import measured
from pettoolkit.cohort.features import feature_names
from pettoolkit.errors import SiteFailed
from pettoolkit.federation.metered import MeteredGrid
from pettoolkit.privacy.events import Mechanism
from pettoolkit.records import Guarantee, MeasuredRisk, NotMeasured, Outcome, RunSpec, from_json

EFFORTS = {"quick": QUICK, "full": FULL}

APART = 2**32
"""Patients of different hospitals never have the same number: so many per hospital."""

TRAINED_PRIVATELY = ("local", "pooled", "federated", "encrypted_aggregation")
"""Arms whose noise is in the training, in steps."""

TABLES = {"synthetic_records": "synthetic", "anonymised_records": "anonymised"}


@dataclass(frozen=True)
class Attacked:
    """What attacks on one view found: figures, the same where nobody can be exposed, and what did not run."""

    findings: tuple[Finding, ...] = ()
    null: tuple[Finding, ...] = ()
    not_run: Mapping[str, str] | None = None

    def __add__(self, other: Attacked) -> Attacked:
        return Attacked(
            self.findings + other.findings, self.null + other.null, {**(self.not_run or {}), **(other.not_run or {})}
        )


def measure(grid: MeteredGrid, spec: RunSpec, outcome: Outcome) -> MeasuredRisk | NotMeasured:
    """Run the attacks of a cell whose spec asks for some."""
    if spec.attacks == "none":
        return NotMeasured("no attacks were run")
    effort = replace(EFFORTS[spec.attacks], seed=spec.seed)
    try:
        people = people_of(grid, spec)
        validation = _group(grid, spec, "validation") if spec.dp is None else None
    except SiteFailed as error:
        return NotMeasured(f"rows for attacks were not granted ({error}); measure on simulated or own data")
    release = on_model(spec, outcome, people, effort, validation) + on_table(spec, outcome, people, effort)
    release += on_mechanism(spec, outcome, people, effort)
    inside = on_insiders(spec, outcome, people, effort, release)
    return measured(
        (*release.findings, *inside.findings),
        release.not_run or {},
        null=(*release.null, *inside.null),
        written=spec.risk.get("thresholds"),
        insider_not_run=inside.not_run,
    )


def people_of(grid: MeteredGrid, spec: RunSpec) -> People:
    """Members (whoever was trained on), control patients and the attacker's own, of all hospitals that trained."""
    groups = {part: _group(grid, spec, part) for part in PARTS[:3]}
    members = groups["train"]
    if spec.arm == "encrypted_records":
        members = _uploaded(grid, spec, members)
    return People(members, groups["control"], groups["attacker"])


def on_model(
    spec: RunSpec, outcome: Outcome, people: People, effort: Effort, validation: Group | None = None
) -> Attacked:
    """Attacks on the released model, or on the hospitals' own."""
    try:
        view = model_view(spec, outcome, people, validation)
    except TooCostly as why:
        return Attacked(not_run={"membership": f"cost: {why}"})
    except NotRun as why:
        return Attacked(not_run={"membership": str(why)})
    findings, not_run = run_attacks(attacks_for(view), view, people, effort)
    return Attacked(tuple(findings), tuple(null_findings(findings)), not_run)


def on_table(spec: RunSpec, outcome: Outcome, people: People, effort: Effort) -> Attacked:
    """Attacks on the released table, if there is one, and on fresh patients posing as it."""
    if outcome.released_table is None:
        return Attacked()
    contract = contract_of(spec)
    view = TableView(
        contract=contract,
        releases={"release": rows_released(outcome.released_table)},
        source=TABLES.get(str(outcome.released_table["kind"]), "synthetic"),
        quasi_identifiers=tuple(c.name for c in contract.quasi_identifiers),
        sensitive=tuple(c.name for c in contract.columns if c.sensitive),
    )
    attacks = attacks_for(view)
    findings, not_run = run_attacks(attacks, view, people, effort)
    if isinstance(stated := outcome.privacy.guarantee, Guarantee):
        findings = bounded(findings, stated.epsilon, stated.delta)
    floor = null_row(view, people, effort.seed)
    null, _ = run_attacks(attacks, floor.view, floor.people, effort)
    return Attacked(tuple(findings), tuple(null), not_run)


def on_mechanism(spec: RunSpec, outcome: Outcome, people: People, effort: Effort) -> Attacked:
    """Audit of a private training in a copy of the cell."""
    if not isinstance(outcome.privacy.guarantee, Guarantee) or spec.arm not in TRAINED_PRIVATELY:
        return Attacked()
    ledger = next(iter(outcome.privacy.ledgers.values()))
    mechanism = from_json(Mechanism, ledger["mechanisms"][0])
    features = len(feature_names(contract_of(spec)))
    training = private.training_of(spec, len(np.unique(people.members.patient)))
    try:
        found = audited(features, mechanism, training, outcome.privacy.guarantee.delta, effort)
    except NotRun as why:
        return Attacked(not_run={"audit": f"does not apply: {why}"})
    return Attacked((found,))


def on_insiders(spec: RunSpec, outcome: Outcome, people: People, effort: Effort, release: Attacked) -> Attacked:
    """Attacks by the coordinator and by a hospital; a coordinator who only holds what is released, sees no more.

    What is held stands beside the reason where what was seen can't be attacked.
    """
    views, found = held_views(spec), Attacked(not_run={})
    if outcome.released_table is not None and not any(v.held == RAW for v in views if isinstance(v, HeldView)):
        found += Attacked(tuple(map(_as_insider, release.findings)), tuple(map(_as_insider, release.null)))
    try:
        views += seen_views(spec, outcome, people)
    except NotRun as why:
        found += Attacked(not_run={"insider": str(why)})
    for view in views:
        findings, not_run = run_attacks(attacks_for(view), view, people, effort)
        found += Attacked(tuple(findings), tuple(null_findings(findings)), not_run)
    return found


def _as_insider(found: Finding) -> Finding:
    return replace(found, figure=replace(found.figure, view=INSIDER, note="the coordinator holds what is released"))


def _group(grid: MeteredGrid, spec: RunSpec, part: str) -> Group:
    replies = ask(grid, spec, "people", "audit", wants="raw_records", sites=spec.sites, extra={"part": part})
    tables = [reply.table for reply in replies.values()]
    pooled = pd.concat(tables, ignore_index=True)
    place = np.repeat(np.arange(len(tables)), [len(t) for t in tables])
    return Group(
        rows=pooled.drop(columns=PATIENT),
        patient=(place * APART + pooled[PATIENT].to_numpy()).astype(np.int64),
        site=np.array(list(replies), dtype=np.str_)[place],
    )


def _uploaded(grid: MeteredGrid, spec: RunSpec, everybody: Group) -> Group:
    """Those whose rows were uploaded: an encrypted training takes so many rows and no more."""
    counts = {site: int((everybody.site == site).sum()) for site in spec.sites}
    wanted = shares(counts, int(spec.options["rows"]))
    if wanted == counts:
        return everybody
    parts = []
    for site, rows in wanted.items():
        fewer = replace(spec, patients_per_site=rows)
        mine = ask(grid, fewer, "people", "audit", wants="raw_records", sites=(site,), extra={"part": "train"})[site]
        chosen = sorted(spec.sites).index(site) * APART + mine.table[PATIENT].to_numpy()
        parts.append(np.isin(everybody.patient, chosen))
    return everybody.take(np.logical_or.reduce(parts))
