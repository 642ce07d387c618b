"""Runs the cells of an experiment that are not finished yet, one after the other, over one grid.

A cell is finished when its result is in MLflow. Whatever happens in between (Ctrl-C, kill -9, a full
disk) loses the cell in flight and nothing else: the same command goes on.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pettoolkit.cohort.source import Cohort, load_cohort
from pettoolkit.errors import BadInput, EngineFailed
from pettoolkit.experiment import deployed
from pettoolkit.experiment.cells import CellReport, Comparison, PlannedCell, Progress
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.hospitals import hospitals, kept_folder
from pettoolkit.experiment.matrix import config_hash, expand, spec_hash, without_nobodys_rows
from pettoolkit.experiment.notes import shown_notes, untrainable
from pettoolkit.experiment.sizes import without_large_deltas
from pettoolkit.experiment.together import together
from pettoolkit.experiment.unfinished import Unfinished
from pettoolkit.records import RESULT_VERSION, Json, RunResult, RunSpec, Summary, digest_of

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from pettoolkit.experiment.execute import Executed
    from pettoolkit.tracking.store import Store


@dataclass(frozen=True)
class Prepared:
    """An experiment with its hospitals loaded and every cell resolved."""

    config: ExperimentConfig
    cohort: Cohort
    cells: tuple[tuple[RunSpec, str | None], ...]
    """Resolved spec, and why it is excluded (or None)."""
    keys: Path | None = None
    """Folder of key files that the hospitals were given; None: they are made for the run and gone after it."""

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each hospital's table."""
        return {name: hospital.digest for name, hospital in self.cohort.hospitals.items()}

    @property
    def name_of_cohort(self) -> str:
        """Digest of the names of all hospitals: with others, a row of the table is another row."""
        return digest_of(sorted(self.cohort.hospitals))[:16]

    @property
    def current(self) -> dict[str, RunSpec]:
        """The cells that are not excluded, by hash."""
        return {self.hash_of(spec): spec for spec, excluded in self.cells if excluded is None}

    def hash_of(self, spec: RunSpec) -> str:
        """What names this cell, for good."""
        return config_hash(spec, self.digests, spec.contract_digest, RESULT_VERSION)

    def identity_of(self, spec: RunSpec) -> dict[str, Json]:
        """What the hash covers, in parts, so that a later plan can say why a cell is stale."""
        return {
            "spec_hash": spec_hash(spec),
            "digests": {site: self.digests[site] for site in (*spec.sites, *spec.unseen)},
            "contract_digest": spec.contract_digest,
            "cohort": self.name_of_cohort,
        }


def prepare(config: ExperimentConfig) -> Prepared:
    """Load the hospitals and resolve the cells.

    Raises
    ------
    BadInput
        With all findings about the data and the cells.
    """
    return _resolved(config, _hospitals_of(config))


def _hospitals_of(config: ExperimentConfig) -> Cohort:
    if config.engine == deployed.ENGINE:
        return deployed.cohort_of(config)
    sites = config.sites
    return load_cohort(
        sites.source,
        sites.folder(),
        sites.partition,
        contract=Path(sites.contract) if sites.contract else None,
        stays=sites.stays,
        include=sites.include,
    )


def _resolved(config: ExperimentConfig, cohort: Cohort) -> Prepared:
    contract, digest = cohort.contract.model_dump(mode="json"), cohort.contract.digest()
    known = cohort.contract.named("patient_id") is not None
    cells = without_nobodys_rows(config, expand(config, tuple(cohort.hospitals)), known)
    if config.engine != deployed.ENGINE:  # else only the hospitals know their patients, and refuse what must not be
        if lines := untrainable(cohort, [cell.spec for cell in cells if cell.excluded is None]):
            raise BadInput(lines)
        cells = without_large_deltas(config, cells, cohort)
    return Prepared(
        config,
        cohort,
        tuple((replace(c.spec, contract=contract, contract_digest=digest), c.excluded) for c in cells),
    )


def plan(config: ExperimentConfig) -> list[PlannedCell]:
    """What a run would do with each cell, and why."""
    prepared = prepare(config)
    with _store(config) as store:
        return _planned(prepared, store)


def run(
    config: ExperimentConfig,
    *,
    engine: str | None = None,
    force: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
    config_text: str = "",
    keys: Path | None = None,
) -> Comparison:
    """Run what is not finished, log it, and renew the summaries.

    Parameters
    ----------
    engine
        ``inline``, ``ray`` or ``flower`` (the hospitals of ``deployment``); the experiment's own if None.
    force
        Run finished cells again.
    workers
        Ray's worker processes; with ``inline``, cells that run side by side, each in a process of its own.
    keys
        Folder of ``pettoolkit keys create``, whose files the hospitals use instead of keys of this run alone.

    Raises
    ------
    BadInput
        If the experiment, its data or the store can't be used.
    EngineFailed
        If the engine does not start; cells that were finished before are kept.
    """
    if engine is not None and deployed.ENGINE in (engine, config.engine):
        config = config.model_copy(update={"engine": engine})  # other hospitals, and with them other cells
    if keys is not None and config.engine == deployed.ENGINE:
        raise BadInput("--keys: deployed hospitals use the key files in their own folders; leave it out")
    prepared = replace(prepare(config), keys=keys)
    with _store(config) as store, store.lock():
        store.begin(config.name)
        unfinished = Unfinished(Path(config.tracking.dir), config.name, prepared.current)
        unfinished.begin(afresh=force)
        reports: list[CellReport] = []
        todo: list[RunSpec] = []
        for cell in _planned(prepared, store):
            if cell.status == "excluded":
                reports.append(CellReport(cell.spec, "excluded", reason=cell.reason))
            elif cell.status == "finished" and not force:
                reports.append(_stored(store, prepared, cell.spec))
            else:
                todo.append(cell.spec)
        if todo:
            say = progress or _quiet
            reports += _run_cells(prepared, todo, store, unfinished, engine, workers, say, config_text)
        unfinished.end()
        summaries = summaries_of(store, reports)
        store.supersede(config.name, prepared.current, config.seeds, prepared.name_of_cohort)
        new = any(report.status == "done" for report in reports)
        for summary in summaries:
            if new or not store.has_summary(config.name, summary, config.seeds):
                rows = _rows_of(summary, prepared, reports)
                store.log_summary(config.name, summary, config.seeds, prepared.name_of_cohort, rows)
        joint, said = _below(store, reports)
    return Comparison(_in_order(prepared, reports), (*summaries, *joint), said)


def show(config: ExperimentConfig) -> Comparison:
    """The finished cells of an experiment, without running anything.

    Where the hospitals' tables can't be loaded, the cells are shown as they were recorded, and that is said.

    Raises
    ------
    BadInput
        As :func:`prepare`, if nothing was recorded either.
    """
    try:
        cohort = _hospitals_of(config)
    except BadInput as error:
        return _show_recorded(config, error)
    prepared = _resolved(config, cohort)
    with _store(config) as store:
        reports = [
            _stored(store, prepared, cell.spec)
            if cell.status == "finished"
            else CellReport(
                cell.spec, "excluded" if cell.status == "excluded" else "missing", reason=cell.reason or "not run yet"
            )
            for cell in _planned(prepared, store)
        ]
        joint, said = _below(store, reports)
        return Comparison(tuple(reports), (*summaries_of(store, reports), *joint), said)


def _show_recorded(config: ExperimentConfig, why: BadInput) -> Comparison:
    from pettoolkit.experiment.recorded import recorded

    with _store(config) as store:
        reports = recorded(config, store)
        if not reports:
            raise why
        joint, said = _below(store, reports)
        note = (
            f"Shown as recorded; whether a cell is stale could not be checked, since the tables are not at hand: {why}"
        )
        return Comparison(
            tuple(reports), (*summaries_of(store, reports), *joint), "\n".join(filter(None, [said, note]))
        )


def _rows_of(summary: Summary, prepared: Prepared, reports: Sequence[CellReport]) -> dict[str, str]:
    """Digests of the tables that a summary's cells are about; empty where seeds draw their own hospitals."""
    from pettoolkit.tracking.names import variant_key

    key = variant_key(summary.spec)
    cells = [r.spec for r in reports if r.result is not None and variant_key(r.spec) == key]
    drawn = {frozenset((*spec.sites, *spec.unseen)) for spec in cells}
    return {site: prepared.digests[site] for site in sorted(*drawn)} if len(drawn) == 1 else {}


def summaries_of(store: Store, reports: Sequence[CellReport]) -> list[Summary]:
    """One summary per variant: mean and SD over its seeds, intervals over patients and seeds together."""
    from pettoolkit.evaluation.summary import summary_of
    from pettoolkit.tracking.names import variant_key

    groups: dict[str, list[tuple[RunResult, bytes]]] = {}
    for report in sorted(reports, key=lambda r: r.spec.seed):
        if report.result is not None and report.run_id is not None:
            pair = (report.result, store.load_predictions(report.run_id))
            groups.setdefault(variant_key(report.spec), []).append(pair)
    return [summary_of([r for r, _ in pairs], [p for _, p in pairs]) for pairs in groups.values()]


def _below(store: Store, reports: Sequence[CellReport]) -> tuple[list[Summary], str]:
    """Lines under the table; and where hospitals are left out in turn, one summary over all of them."""
    from pettoolkit.experiment.alone import alone_or_together
    from pettoolkit.experiment.dial import dial_lines
    from pettoolkit.experiment.leftout import in_turn, worth_of_more
    from pettoolkit.experiment.samerisk import encrypted_as_plain

    groups = in_turn(reports, store.load_predictions)
    joint = [s for s in (group.summary() for group in groups) if s is not None]
    compared = [*alone_or_together(reports, store.load_predictions), *worth_of_more(groups)]
    compared += [*encrypted_as_plain(reports), *dial_lines(reports)]
    return joint, "\n".join(line for line in (*compared, together(reports), *shown_notes(reports)) if line)


def _planned(prepared: Prepared, store: Store) -> list[PlannedCell]:
    finished, current = store.finished(prepared.config.name), prepared.current
    planned: list[PlannedCell] = []
    for spec, excluded in prepared.cells:
        if excluded is not None:
            planned.append(PlannedCell(spec, "excluded", excluded))
        elif prepared.hash_of(spec) in finished:
            planned.append(PlannedCell(spec, "finished"))
        else:
            why = store.why_stale(prepared.config.name, prepared.identity_of(spec), spec, current)
            planned.append(PlannedCell(spec, "stale" if why else "to run", why or ""))
    return planned


def _stored(store: Store, prepared: Prepared, spec: RunSpec) -> CellReport:
    found = store.finished(prepared.config.name)[prepared.hash_of(spec)]
    return CellReport(spec, "skipped", store.load_result(found.run_id), found.run_id)


def _run_cells(
    prepared: Prepared,
    todo: Sequence[RunSpec],
    store: Store,
    unfinished: Unfinished,
    asked: str | None,
    workers: int | None,
    say: Progress,
    config_text: str,
) -> list[CellReport]:
    reports: list[CellReport] = []
    with ExitStack() as stack:
        kept = None if prepared.config.engine == deployed.ENGINE else kept_folder(prepared, todo, unfinished)
        outcomes = _outcomes(prepared, todo, unfinished, asked, workers, say, stack, kept)
        for spec, found in stack.enter_context(closing(outcomes)):
            reports.append(_logged(prepared, spec, found, store, unfinished, config_text))
        say("done", len(todo), len(todo))
    return reports


def _outcomes(
    prepared: Prepared,
    todo: Sequence[RunSpec],
    unfinished: Unfinished,
    asked: str | None,
    workers: int | None,
    say: Progress,
    stack: ExitStack,
    kept: Path | None,
) -> Generator[tuple[RunSpec, Executed | str]]:
    """What each cell came to, or why it failed: one after the other, or side by side in processes of their own."""
    from pettoolkit.experiment.outcome import carried_out
    from pettoolkit.experiment.sidebyside import Job, side_by_side

    jobs = [Job(spec, name := prepared.hash_of(spec), unfinished.journal(spec, name)) for spec in todo]
    if prepared.config.engine == deployed.ENGINE:
        for done, job in enumerate(jobs):
            say(_title(job.spec), done, len(jobs))
            yield job.spec, deployed.carried_out(prepared.config, job.spec, job.name)
        return
    at_once = min(workers or 1, len(jobs))
    if (asked or prepared.config.engine) == "inline" and at_once > 1:
        say(f"starting {at_once} processes with {len(prepared.cohort.hospitals)} hospitals each", 0, len(jobs))
        sites = hospitals(prepared, todo, "processes", stack, kept)
        for done, (job, found) in enumerate(side_by_side(sites, jobs, at_once), start=1):
            say(f"{_title(job.spec)}: done", done, len(jobs))
            yield job.spec, found
        return
    grid = _opened(prepared, todo, asked, workers, say, stack, kept)
    for done, job in enumerate(jobs):
        say(_title(job.spec), done, len(jobs))
        yield job.spec, carried_out(grid, job.spec, job.name, job.journal)


def _opened(
    prepared: Prepared,
    todo: Sequence[RunSpec],
    asked: str | None,
    workers: int | None,
    say: Progress,
    stack: ExitStack,
    kept: Path | None,
) -> Grid:
    """The grid that was asked for; the file's own engine may give way to this process, and that is said."""
    import torch

    from pettoolkit.arms.app import build_app
    from pettoolkit.federation.engine import open_grid

    torch.set_num_threads(1)  # small models: more threads only wait for each other, and change the last bits
    engine = asked or prepared.config.engine
    say(f"starting {engine} with {len(prepared.cohort.hospitals)} hospitals", 0, len(todo))
    try:
        return stack.enter_context(
            open_grid(engine, build_app, hospitals(prepared, todo, engine, stack, kept), workers)
        )
    except EngineFailed as error:
        if asked is not None or engine == "inline":
            raise
        say(f"{error}; going on in this process (engine: inline)", 0, len(todo))
    return stack.enter_context(open_grid("inline", build_app, hospitals(prepared, todo, "inline", stack, kept)))


def _logged(
    prepared: Prepared, spec: RunSpec, found: Executed | str, store: Store, unfinished: Unfinished, config_text: str
) -> CellReport:
    from pettoolkit.evaluation.predictions import to_bytes
    from pettoolkit.experiment.cellreports import cell_files
    from pettoolkit.experiment.execute import weights_of
    from pettoolkit.experiment.outcome import why_failed

    files: Mapping[str, bytes] = {}
    if not isinstance(found, str):
        try:
            files = cell_files(found, prepared.config.responsible)
        except Exception as error:
            found = why_failed(error)
    if isinstance(found, str):
        unfinished.failed(spec)
        return CellReport(spec, "failed", reason=found)
    run_id = store.log_cell(
        prepared.config.name,
        found.result,
        predictions=to_bytes(found.predictions),
        weights=weights_of(found.models),
        config_text=config_text,
        identity=prepared.identity_of(spec),
        files=files,
    )
    unfinished.finished(spec, prepared.hash_of(spec))
    return CellReport(spec, "done", found.result, run_id)


def _in_order(prepared: Prepared, reports: Sequence[CellReport]) -> tuple[CellReport, ...]:
    order: Mapping[str, int] = {prepared.hash_of(spec): i for i, (spec, _) in enumerate(prepared.cells)}
    return tuple(sorted(reports, key=lambda report: order[prepared.hash_of(report.spec)]))


def _title(spec: RunSpec) -> str:
    dp = f" epsilon {spec.dp.epsilon:g}" if spec.dp else ""
    variant = spec.options.get("strategy") or spec.options.get("generator") or ""
    unseen = f" unseen {', '.join(spec.unseen)}" if spec.unseen else ""
    return f"{spec.arm} {variant} {spec.model.name}{dp} seed {spec.seed}{unseen}".replace("  ", " ")


def _quiet(doing: str, done: int, total: int) -> None:
    """No progress asked for."""


def _store(config: ExperimentConfig) -> Store:
    from pettoolkit.tracking.store import Store

    return Store(Path(config.tracking.dir))
