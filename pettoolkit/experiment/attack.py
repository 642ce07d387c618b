"""The standardised risk measurement on its own: attack anybody's released table, beside tables of known risk."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pettoolkit.attacks.protocol import (
    FULL,
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
from pettoolkit.attacks.tables.anchors import NULL, Anchor, anchors
from pettoolkit.attacks.tables.released import place, read_spans
from pettoolkit.attacks.verdict import THRESHOLDS, verdict
from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.tablefile import read_table, sha256_of
from pettoolkit.cohort.tables import DEFAULT_CONTRACT, load_tables
from pettoolkit.errors import BadInput
from pettoolkit.models.seeding import derived_seed
from pettoolkit.records import AttackFigure, Verdict, to_json

if TYPE_CHECKING:
    from pettoolkit.records import Json

DOCUMENT = "pettoolkit measured risk"
SCHEMA_VERSION = 2
"""Of the JSON document; raised when a field changes its meaning or goes away."""

EFFORTS: Mapping[str, Effort] = {"quick": QUICK, "full": FULL}
SOURCES = ("synthetic", "anonymised", "raw")
SITE = "*hospital*"
"""Column in which the hospital of each row travels from the reader of tables to :func:`people_of`."""

EACH_ROW = "the contract names no patient id, so each row is counted as one patient"

TOGETHER = "all releases together"
WORSE = ("below", "undecided", "above")
SAME_RECORDS = 0.01
"""Share of reference patients whose whole record is also in the real table above which they are taken for the same."""


@dataclass(frozen=True)
class Measured:
    """All attacks on one table (or several together): figures, what did not run and why, the verdict.

    ``sha256`` is of each file that was attacked, by name; of an anchor, which is no file, it is empty.
    """

    name: str
    source: str
    rows: int
    figures: tuple[AttackFigure, ...]
    not_run: Mapping[str, str]
    verdict: Verdict
    notes: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RiskReport:
    """What was attacked, what it reached, and what the same attacks reach on tables of known risk.

    ``anchors`` are by release, from floor to ceiling; ``left_out`` says which of them could not be made.
    """

    releases: tuple[Measured, ...]
    anchors: Mapping[str, tuple[Measured, ...]]
    left_out: Mapping[str, str]
    people: Mapping[str, int]
    effort: str
    attacks: int
    seed: int
    columns: Mapping[str, tuple[str, ...]]

    def as_json(self) -> dict[str, Json]:
        """The document (:mod:`~pettoolkit.experiment.riskschema`); all but ``timing`` repeats under the same seed."""
        data: dict[str, Json] = {"document": DOCUMENT, "schema_version": SCHEMA_VERSION}
        data |= to_json(self)
        timing = {m.name: {f.attack: round(f.seconds, 3) for f in m.figures} for m in self.releases}
        data["thresholds"] = {name: dataclasses.asdict(t) for name, t in THRESHOLDS.items()}
        data["timing"] = timing
        for entry in (*data["releases"], *(a for some in data["anchors"].values() for a in some)):
            for figure in entry["figures"]:
                del figure["seconds"]
        return data


def attack(
    real: Path,
    releases: Sequence[Path],
    reference: Path,
    *,
    model: Path | None = None,
    contract: Path | None = None,
    attacks: str = "full",
    source: str | None = None,
    seed: int = 0,
    plugins: Sequence[str] = (),
) -> RiskReport:
    """Measure the risk of released tables, or of a saved model.

    Parameters
    ----------
    real
        Table (or folder of tables) of the patients whose data were used.
    releases
        Released tables, CSV or Parquet, with columns of the contract; several: of overlapping patients.
    reference
        Table of patients of the same population whose data were not used: half of them are attacked like the others
        (control), the other half is what an attacker may own.
    model
        ``weights.safetensors`` of a finished run with its ``result.json`` beside it; see
        :func:`pettoolkit.experiment.attackmodel.view_of`.
    contract
        YAML contract; ``contract.yaml`` beside ``real`` if not given.
    attacks
        ``quick`` (hundreds) or ``full`` (thousands).
    source
        What the releases are: ``synthetic``, ``anonymised`` or ``raw``; if None, a table with generalised cells is
        taken as anonymised, any other as synthetic.
    plugins
        Modules with further attacks (:mod:`pettoolkit.attacks.protocol`).

    Raises
    ------
    BadInput
        If something is not there, does not fit the contract, or the reference patients are the real ones.
    """
    _check_asked(releases, model, attacks, source)
    contract = contract or (real if real.is_dir() else real.parent) / DEFAULT_CONTRACT
    patients, described = _load(real, contract)
    outside, _ = _load(reference, contract)
    people = people_of(patients, outside, described, seed)
    effort = replace(EFFORTS[attacks], seed=seed)
    views = _views(releases, described, source)
    measured: list[Measured] = []
    beside: dict[str, tuple[Measured, ...]] = {}
    left_out: dict[str, str] = {}
    seen: dict[tuple[str, ...], list[tuple[Measured, list[Finding]]]] = {}
    for name, view in views.items():
        columns = tuple(next(iter(view.releases.values())).columns)
        if columns not in seen:
            seen[columns], gone = _anchors(view, people, effort, plugins)
            left_out |= gone
        beside[name] = tuple(m for m, _ in seen[columns])
        null = next((found for m, found in seen[columns] if m.name == NULL), [])
        found = _measure(name, view, people, effort, null, plugins)[0]
        measured.append(replace(found, sha256={name: sha256_of(Path(name))}))
    if len(views) > 1:
        measured.append(_together(views, measured, people, effort, plugins))
    if model is not None:
        measured.append(_of_model(model, patients, described, people, effort, plugins))
    return RiskReport(
        releases=tuple(measured),
        anchors=beside,
        left_out=left_out,
        people={"members": len(people.members), "control": len(people.control), "attacker": len(people.attacker)},
        effort=effort.name,
        attacks=effort.attacks,
        seed=seed,
        columns={
            "quasi_identifiers": tuple(c.name for c in described.quasi_identifiers),
            "sensitive": tuple(c.name for c in described.columns if c.sensitive),
        },
    )


def check_out(out: Path) -> None:
    """Refuse a file that :func:`write` would refuse, before minutes are spent on what goes into it.

    Raises
    ------
    BadInput
        If the file is there already, or its folder is not.
    """
    if out.exists():
        raise BadInput(f"{out}: is there already (move it away, or choose another name)")
    if not out.parent.is_dir():
        raise BadInput(f"{out}: there is no folder {out.parent}")


def write(report: RiskReport, out: Path) -> None:
    """Write the JSON document; ``pettoolkit/experiment/risk.schema.json`` describes it.

    Raises
    ------
    BadInput
        If the file is there already, or can't be written.
    """
    try:
        with out.open("x", encoding="utf-8") as file:
            json.dump(report.as_json(), file, indent=2)
            file.write("\n")
    except FileExistsError:
        raise BadInput(f"{out}: is there already (move it away, or choose another name)") from None
    except OSError as error:
        raise BadInput(f"{out}: can't be written ({error.strerror})") from None


def people_of(patients: pd.DataFrame, outside: pd.DataFrame, contract: Contract, seed: int) -> People:
    """Members, control and attacker; half of the patients ``outside`` are control, drawn by the seed.

    Where the contract has no patient id, each row is taken as one patient (:data:`EACH_ROW` says so in the report).

    Raises
    ------
    BadInput
        If patients are in both tables, by their id or by whole records.
    """
    name = contract.named("patient_id")
    mine, theirs = _ids(patients, name), _ids(outside, name)
    both = sorted(set(mine) & set(theirs)) if name is not None else []
    if both:
        raise BadInput(f"--reference: {len(both)} of its patients are in --real too, as {both[0]} (take others)")
    same = _same_records(patients, outside, contract)
    if same > max(1, SAME_RECORDS * len(outside)):
        raise BadInput(
            f"--reference: {same} of its {len(outside)} records are in --real too; it must hold patients whose data "
            "were not used"
        )
    own = pd.factorize(pd.Series(mine))[0].astype(np.int64)
    others = pd.factorize(pd.Series(theirs))[0].astype(np.int64) + int(own.max()) + 1
    order = np.random.default_rng(derived_seed(seed, "control")).permutation(np.unique(others))
    is_control = np.isin(others, order[: len(order) // 2])
    kept = [c.name for c in (*contract.feature_columns, contract.outcome)]
    inside = Group(patients[kept].reset_index(drop=True), own, patients[SITE].to_numpy(dtype=np.str_))
    out = Group(outside[kept].reset_index(drop=True), others, outside[SITE].to_numpy(dtype=np.str_))
    return People(inside, out.take(is_control), out.take(~is_control))


def _ids(rows: pd.DataFrame, name: str | None) -> list[str]:
    return [str(i) for i in range(len(rows))] if name is None else [str(i) for i in rows[name]]


def _same_records(patients: pd.DataFrame, outside: pd.DataFrame, contract: Contract) -> int:
    columns = (*contract.feature_columns, contract.outcome)
    if len(columns) < 5:
        return 0  # few columns: different people look alike
    placed = [pd.DataFrame(place(rows, columns)) for rows in (patients, outside)]
    keys = [set(frame.fillna(-1.0).itertuples(index=False, name=None)) for frame in placed]
    return len(keys[0] & keys[1])


def _check_asked(releases: Sequence[Path], model: Path | None, attacks: str, source: str | None) -> None:
    lines = []
    if not releases and model is None:
        lines.append("--release: at least one table is needed (or --model)")
    if attacks not in EFFORTS:
        lines.append(f"--attacks: must be one of {', '.join(EFFORTS)} (got {attacks})")
    if source is not None and source not in SOURCES:
        lines.append(f"--source: must be one of {', '.join(SOURCES)} (got {source})")
    if len(set(releases)) < len(releases):
        lines.append("--release: the same file is there twice")
    if lines:
        raise BadInput(lines)


def _load(path: Path, contract: Path) -> tuple[pd.DataFrame, Contract]:
    """All hospitals' rows, with the hospital of each in :data:`SITE`."""
    rows_of, described = load_tables(path, contract)
    named = [rows.assign(**{SITE: name}) for name, rows in rows_of.items()]
    return pd.concat(named, ignore_index=True), described.select("full")


def _views(releases: Sequence[Path], contract: Contract, source: str | None) -> dict[str, TableView]:
    out: dict[str, TableView] = {}
    known = [c.name for c in (*contract.feature_columns, contract.outcome)]
    lines: list[str] = []
    for path in releases:
        if not path.is_file():
            raise BadInput(f"{path}: there is no such file (--release takes one CSV or Parquet table)")
        frame: pd.DataFrame = read_table(path).table.to_pandas()
        frame = frame[[c for c in known if c in frame.columns]]
        name = str(path)
        if len(frame.columns) < 2 or not len(frame):
            lines.append(
                f"{path}: has no rows"
                if len(frame.columns) >= 2
                else f"{path}: has fewer than two columns of the contract"
            )
            continue
        try:
            spans = read_spans(frame, [contract.column(c) for c in frame.columns])
        except BadInput as error:
            lines += [f"{path}: {line}" for line in error.lines]
            continue
        made = source or ("synthetic" if all(s.plain for s in spans) else "anonymised")
        out[name] = TableView(contract, releases={name: frame}, source=made)
    if lines:
        raise BadInput(lines)
    return out


def _measure(
    name: str, view: TableView, people: People, effort: Effort, null: Sequence[Finding], plugins: Sequence[str]
) -> tuple[Measured, list[Finding]]:
    found, not_run = run_attacks(attacks_for(view, plugins), view, people, effort)
    judged = verdict(found, view="release", null=null, not_run=not_run)
    rows = sum(len(frame) for frame in view.releases.values())
    notes = (*_notes(view), *([EACH_ROW] if view.contract.named("patient_id") is None else []))
    return Measured(name, view.source, rows, tuple(f.figure for f in found), not_run, judged, notes), found


def _notes(view: TableView) -> list[str]:
    wanted = [c.name for c in (*view.contract.feature_columns, view.contract.outcome)]
    gone = [n for n in wanted if n not in next(iter(view.releases.values())).columns]
    return [f"not in the release, so not attacked through it: {', '.join(gone)}"] if gone else []


def _together(
    views: Mapping[str, TableView], alone: Sequence[Measured], people: People, effort: Effort, plugins: Sequence[str]
) -> Measured:
    """All releases of real rows together; of synthetic ones, in which nobody is, only where there is nothing else.

    Who has all of them has each of them: together they are no better than the worst one alone, of whatever kind.
    """
    real = [view for view in views.values() if view.source != "synthetic"]
    chosen = real if len(real) > 1 else list(views.values())
    frames = {name: frame for view in chosen for name, frame in view.releases.items()}
    sources = sorted({view.source for view in chosen})
    view = replace(chosen[0], releases=frames, source=" and ".join(sources))
    several = [a for a in attacks_for(view, plugins) if a.name == "intersection"]
    found, not_run = run_attacks(several, view, people, effort)
    judged = _no_better(verdict(found, view="release", not_run=not_run), alone)
    rows = sum(len(frame) for frame in frames.values())
    notes = (f"of {len(frames)} releases; the figures are of what all of them allow together, and of nothing else",)
    files = {name: sha256_of(Path(name)) for name in frames}
    return Measured(TOGETHER, view.source, rows, tuple(f.figure for f in found), not_run, judged, notes, files)


def _no_better(judged: Verdict, alone: Sequence[Measured]) -> Verdict:
    """The verdict on what releases allow together, made no better than that on any release alone."""
    worst = max([judged.state, *(m.verdict.state for m in alone)], key=WORSE.index)
    if worst == judged.state:
        return judged
    names = ", ".join(m.name for m in alone if m.verdict.state == worst)
    return replace(judged, state=worst, why=f"{names} alone is {worst}; what all allow together: {judged.why}")


def _of_model(
    path: Path, patients: pd.DataFrame, contract: Contract, people: People, effort: Effort, plugins: Sequence[str]
) -> Measured:
    from pettoolkit.attacks.models.membership import null_findings
    from pettoolkit.experiment.attackmodel import trained, view_of

    chosen, note = trained(path, patients, people.members.site, contract)
    people = replace(people, members=people.members.take(chosen))
    try:
        view = view_of(path, people)
        found, not_run = run_attacks(attacks_for(view, plugins), view, people, effort)
    except TooCostly as why:
        found, not_run = [], {"membership": f"cost: {why}"}
    except NotRun as why:
        found, not_run = [], {"membership": str(why)}
    judged = verdict(found, view="release", null=null_findings(found), not_run=not_run)
    figures, files = tuple(f.figure for f in found), {str(path): sha256_of(path)}
    notes = (note,) if note else ()
    return Measured(str(path), "model", len(people.members), figures, not_run, judged, notes, files)


def _anchors(
    view: TableView, people: People, effort: Effort, plugins: Sequence[str]
) -> tuple[list[tuple[Measured, list[Finding]]], dict[str, str]]:
    out: list[tuple[Measured, list[Finding]]] = []
    left_out: dict[str, str] = {}
    for anchor in anchors(view, people, effort.seed):
        if isinstance(anchor, Anchor):
            out.append(_measure(anchor.name, anchor.view, anchor.people, effort, [], plugins))
        else:
            left_out[anchor[0]] = anchor[1]
    return out, left_out
