"""Finished cells, in MLflow: one SQLite file and a folder of artifacts beside it.

A run of MLflow becomes FINISHED when all its files and figures are there, and only FINISHED runs
count: whatever dies in the middle leaves a run that is marked KILLED next time, and its cell runs
again. One process writes at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pettoolkit.errors import BadInput
from pettoolkit.records import Json, RunResult, RunSpec, Summary, digest_of, from_json, to_json
from pettoolkit.tracking import artifacts, names, views
from pettoolkit.tracking.database import DATABASE, explained, mlflow_client
from pettoolkit.tracking.finished import SUPERSEDED, TAG_LENGTH, FinishedCell, changes, digests_tag, finished_cell

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from mlflow import MlflowClient
    from mlflow.entities import Run

LOCK = "pettoolkit.lock"
CELL, SUMMARY, REPORT = "cell", "summary", "report"
_DATASET_NAME = 500
"""Longest name of a dataset that MLflow takes."""
_PAGE = 1000
_METRICS_A_BATCH = 900  # MLflow takes 1000 entities at once, params and tags included
_OUT_OF_DATE = " (superseded)"


class Store:
    """The record of a folder (``tracking.dir``).

    Parameters
    ----------
    directory
        Holds ``mlflow.db`` and ``artifacts/``. Nothing is created before something is written.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory).absolute()
        self._client: MlflowClient | None = None
        self._finished: dict[str, dict[str, FinishedCell]] = {}
        self._locked = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client = None

    @property
    def uri(self) -> str:
        """MLflow's tracking URI of this folder."""
        return f"sqlite:///{self.directory / DATABASE}"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Be the one process that writes; what a dead one left unfinished is marked KILLED.

        Raises
        ------
        BadInput
            If another process writes, or the folder can't be written to.
        """
        from filelock import FileLock, Timeout

        path = self.directory / LOCK
        lock = FileLock(path)
        with explained(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(timeout=0)
            except Timeout:
                raise BadInput(
                    f"{path}: another run is writing to this folder (wait until it has ended, "
                    "or give this run its own folder with --set tracking.dir=DIR)"
                ) from None
        try:
            self._locked = True
            self._finished.clear()
            if (self.directory / DATABASE).exists():
                self._close_leftovers()
            yield
        finally:
            self._locked = False
            lock.release()

    def begin(self, experiment: str) -> None:
        """Create the experiment if it is new, with its note and its saved view."""
        with explained(self.directory):
            identifier = self._experiment_id(experiment, create=True)
            views.decorate(self._open(), str(identifier), experiment)

    def finished(self, experiment: str) -> dict[str, FinishedCell]:
        """Finished cells by config hash, the newest of each."""
        if experiment not in self._finished:
            runs = self._search(experiment, f"tags.`pet.kind` = '{CELL}' and attributes.status = 'FINISHED'")
            stored = [run for run in runs if (self._folder(run) / artifacts.RESULT).exists()]
            cells = [finished_cell(run) for run in stored]
            self._finished[experiment] = {cell.config_hash: cell for cell in reversed(cells)}
        return dict(self._finished[experiment])

    def why_stale(
        self,
        experiment: str,
        identity: Mapping[str, Json],
        spec: RunSpec | None = None,
        current: Collection[str] = frozenset(),
    ) -> str | None:
        """Why a cell that was finished once is not any more; ``None`` if it never was.

        Parameters
        ----------
        identity
            ``spec_hash``, ``digests`` of the sites' tables, ``contract_digest`` and ``cohort`` of the cell now.
        spec
            The cell's spec: then a cell of the same row with other settings counts too.
        current
            Hashes of the experiment's cells as it is now; they are no former cells.
        """
        finished = self.finished(experiment).values()
        once = [c for c in finished if c.spec_hash == identity["spec_hash"]]
        if once:
            found = min((changes(cell, identity) for cell in once), key=len)
            return "; ".join(found) or "what a cell's hash covers changed"
        if spec is None:
            return None
        row = names.row_of(spec, str(identity.get("cohort", "")))
        former = [c for c in finished if c.row == row and c.config_hash not in current]
        nearest = min((said for c in former if (said := self._settings_changed(c, spec))), key=len, default=[])
        return f"changed: {', '.join(nearest)}" if nearest else None

    def _settings_changed(self, cell: FinishedCell, spec: RunSpec) -> list[str]:
        """Settings in which a former cell differs; none where its record can't be read."""
        try:
            return names.changed(self.load_result(cell.run_id).spec, spec)
        except BadInput:
            return []

    def log_cell(
        self,
        experiment: str,
        result: RunResult,
        *,
        predictions: bytes,
        weights: Mapping[str, npt.NDArray[np.generic]],
        config_text: str,
        identity: Mapping[str, Json],
        files: Mapping[str, bytes] | None = None,
    ) -> str:
        """Store one finished cell; an older one of the same hash is replaced.

        Parameters
        ----------
        predictions
            The file of predictions.
        weights
            Named arrays of the model or models.
        config_text
            The experiment's YAML.
        identity
            See :meth:`why_stale`.
        files
            Further artifacts by path (figures, reports, a released table).

        Returns
        -------
        str
            MLflow's run id.
        """
        contents = artifacts.cell_files(result, predictions, weights, config_text) | dict(files or {})
        metrics, odd = names.finite(names.metrics_of(result))
        tags = {
            "pet.kind": CELL,
            "pet.experiment": experiment,
            "pet.config_hash": result.config_hash,
            "pet.result_version": str(result.result_version),
            "pet.spec_hash": str(identity["spec_hash"]),
            "pet.contract_digest": str(identity["contract_digest"]),
            "pet.digests": digests_tag(identity["digests"]),
            "pet.cohort": str(identity.get("cohort", "")),
            "pet.row": names.row_of(result.spec, str(identity.get("cohort", ""))),
            **({"pet.not_finite": ", ".join(odd)[:TAG_LENGTH]} if odd else {}),
        }
        run_id = self._log(
            experiment,
            names.run_name(result.spec),
            names.params_of(result.spec),
            metrics,
            tags,
            contents,
            result.cost.train_seconds,
            {f"round/{name.removeprefix('round/')}": values for name, values in result.round_metrics.items()},
        )
        self._log_rows(run_id, identity["digests"])
        self._replace(experiment, f"tags.`pet.config_hash` = '{result.config_hash}'", CELL, run_id)
        return run_id

    def _log_rows(self, run_id: str, digests: Mapping[str, str]) -> None:
        """Name the hospitals' tables as the run's dataset: equal digests in MLflow's column show equal rows."""
        from mlflow.entities import Dataset, DatasetInput

        name = f"{len(digests)} hospitals: {', '.join(sorted(digests))}"[:_DATASET_NAME]
        source = json.dumps({"tables": "in the hospitals; only their digest is recorded"})
        rows = Dataset(name=name, digest=digest_of(digests)[:16], source_type="local", source=source)
        with explained(self.directory):
            self._open().log_inputs(run_id, datasets=[DatasetInput(dataset=rows)])

    def log_summary(
        self,
        experiment: str,
        summary: Summary,
        seeds: Sequence[int] | None = None,
        cohort: str = "",
        digests: Mapping[str, str] | None = None,
    ) -> str:
        """Store mean and SD over seeds of one variant; the older one of the same seeds is replaced.

        Parameters
        ----------
        seeds
            Those of the experiment file, to which the summary belongs even if not all of them could be run; by
            default the summary's own.
        cohort
            See :func:`names.row_of`.
        digests
            Of the hospitals' tables, where all its cells are about the same: its dataset in MLflow.
        """
        key, listed = names.variant_key(summary.spec), _listed(summary.seeds if seeds is None else seeds)
        params = names.params_of(summary.spec) | {"seed": _listed(summary.seeds)}
        metrics, _ = names.finite(names.summary_metrics(summary))
        tags = {
            "pet.kind": SUMMARY,
            "pet.experiment": experiment,
            "pet.variant": key,
            "pet.seeds": listed,
            "pet.row": names.row_of(summary.spec, cohort, seed=False),
        }
        contents = {artifacts.SUMMARY: artifacts.as_json(to_json(summary))}
        run_id = self._log(experiment, names.summary_name(summary.spec), params, metrics, tags, contents, 0.0, {})
        if digests:
            self._log_rows(run_id, digests)
        self._replace(experiment, f"tags.`pet.variant` = '{key}' and tags.`pet.seeds` = '{listed}'", SUMMARY, run_id)
        return run_id

    def log_report(self, experiment: str, text: str, cells: Sequence[str] = ()) -> tuple[str, Path]:
        """Store the comparison report as a run of its own, instead of the older one; MLflow shows it inline.

        Parameters
        ----------
        cells
            MLflow's run ids of the cells that it is about.

        Returns
        -------
        tuple of str and Path
            MLflow's run id, and the file.
        """
        tags = {"pet.kind": REPORT, "pet.experiment": experiment, "pet.cells": digest_of(list(cells))}
        contents = {artifacts.COMPARISON: text.encode()}
        run_id = self._log(experiment, f"report: {experiment} compared", {}, {}, tags, contents, 0.0, {})
        self._replace(experiment, f"tags.`pet.experiment` = '{experiment}'", REPORT, run_id)
        with explained(self.directory):
            return run_id, self._folder(self._open().get_run(run_id)) / artifacts.COMPARISON

    def has_report(self, experiment: str, cells: Sequence[str]) -> bool:
        """Whether a comparison report about exactly these cells (their run ids) is stored."""
        about = f"tags.`pet.kind` = '{REPORT}' and tags.`pet.cells` = '{digest_of(list(cells))}'"
        return bool(self._search(experiment, f"{about} and attributes.status = 'FINISHED'"))

    def has_summary(self, experiment: str, summary: Summary, seeds: Sequence[int]) -> bool:
        """Whether there is a summary of this variant that belongs to these seeds."""
        key = names.variant_key(summary.spec)
        which = f"tags.`pet.variant` = '{key}' and tags.`pet.seeds` = '{_listed(seeds)}'"
        return bool(self._search(experiment, f"{which} and tags.`pet.kind` = '{SUMMARY}'"))

    def supersede(self, experiment: str, current: Mapping[str, RunSpec], seeds: Sequence[int], cohort: str) -> None:
        """Mark what the experiment, as it is now, has replaced.

        A cell of the same row with another hash (other options, data, contract or version) gets the tag
        ``pet.superseded``; it is kept, so that going back to it costs nothing, and then loses the tag. Summaries can
        be made again from their cells: those of the same rows that are of other options, or of some of these seeds
        only, are deleted.

        Parameters
        ----------
        current
            Hash to spec of all cells of the experiment.
        seeds, cohort
            See :meth:`log_summary`.
        """
        rows = {names.row_of(spec, cohort) for spec in current.values()}
        for cell in self.finished(experiment).values():
            if cell.row in rows and cell.superseded != (cell.config_hash not in current):
                self._mark(cell)
        variants = {names.variant_key(spec) for spec in current.values()}
        shown = {names.row_of(spec, cohort, seed=False) for spec in current.values()}
        for run in self._search(experiment, f"tags.`pet.kind` = '{SUMMARY}'"):
            tags = run.data.tags
            theirs = set(tags.get("pet.seeds", "").split(", "))
            mine = tags.get("pet.variant") in variants and tags.get("pet.seeds") == _listed(seeds)
            if tags.get("pet.row") in shown and theirs <= set(map(str, seeds)) and not mine:
                self._delete(run)
        self._finished.pop(experiment, None)

    def _mark(self, cell: FinishedCell) -> None:
        """Set the tag and say it in the name, or take both away."""
        with explained(self.directory):
            client = self._open()
            if cell.superseded:
                client.delete_tag(cell.run_id, SUPERSEDED)
                client.update_run(cell.run_id, name=cell.name.removesuffix(_OUT_OF_DATE))
            else:
                client.set_tag(cell.run_id, SUPERSEDED, "true")
                client.update_run(cell.run_id, name=cell.name + _OUT_OF_DATE)

    def load_result(self, run_id: str) -> RunResult:
        """Read the stored result of a cell.

        Raises
        ------
        BadInput
            If it was written by a newer program, or is damaged.
        """
        data = self._read(run_id, artifacts.RESULT)
        try:
            return from_json(RunResult, json.loads(data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            where = self._folder(self._open().get_run(run_id)) / artifacts.RESULT
            raise BadInput(
                f"{where}: not a result that this version can read ({error}); install the version that wrote it, "
                "or run the cell again with --force"
            ) from None

    def load_predictions(self, run_id: str) -> bytes:
        """Read the stored file of predictions of a cell."""
        return self._read(run_id, artifacts.PREDICTIONS)

    def artifact(self, run_id: str, name: str) -> bytes | None:
        """Read one of a cell's files; None where it has none of this name."""
        with explained(self.directory):
            path = self._folder(self._open().get_run(run_id)) / name
            return path.read_bytes() if path.is_file() else None

    def attach(self, run_id: str, contents: Mapping[str, bytes]) -> None:
        """Put further files beside those of a finished cell; files of the same name are replaced."""
        if not self._locked:
            raise RuntimeError("the store is written to under its lock only")
        with explained(self.directory):
            artifacts.write(self._folder(self._open().get_run(run_id)), contents)

    def experiment_id(self, experiment: str) -> str | None:
        """MLflow's id of an experiment, ``None`` if it has not been run."""
        return self._experiment_id(experiment, create=False)

    def _read(self, run_id: str, name: str) -> bytes:
        with explained(self.directory):
            return (self._folder(self._open().get_run(run_id)) / name).read_bytes()

    def _log(
        self,
        experiment: str,
        name: str,
        params: Mapping[str, str],
        metrics: Mapping[str, float],
        tags: Mapping[str, str],
        contents: Mapping[str, bytes],
        seconds: float,
        rounds: Mapping[str, Sequence[float]],
    ) -> str:
        """Write a run: files first, then figures, FINISHED last."""
        if not self._locked:
            raise RuntimeError("the store is written to under its lock only")
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.utils.time import get_current_time_millis

        with explained(self.directory):
            client, now = self._open(), get_current_time_millis()
            run = client.create_run(
                str(self._experiment_id(experiment, create=True)),
                start_time=now - int(1000 * seconds),
                run_name=name,
                tags={"pet.kind": tags["pet.kind"]},
            )
            run_id = str(run.info.run_id)
            artifacts.write(self._folder(run), contents)
            points = [Metric(key, value, now, 0) for key, value in metrics.items()]
            for key, values in rounds.items():
                good, _ = names.finite({str(step): value for step, value in enumerate(values, start=1)})
                points += [Metric(key, value, now, int(step)) for step, value in good.items()]
            client.log_batch(
                run_id,
                params=[Param(key, value[:6000]) for key, value in params.items()],
                tags=[RunTag(key, value) for key, value in tags.items()],
            )
            for first in range(0, len(points), _METRICS_A_BATCH):
                client.log_batch(run_id, metrics=points[first : first + _METRICS_A_BATCH])
            client.set_terminated(run_id, "FINISHED", end_time=now)
        self._finished.pop(experiment, None)
        return run_id

    def _replace(self, experiment: str, which: str, kind: str, keep: str) -> None:
        """Delete the runs that ``keep`` supersedes, with their files."""
        for run in self._search(experiment, f"{which} and tags.`pet.kind` = '{kind}'"):
            if run.info.run_id != keep:
                self._delete(run)
        self._finished.pop(experiment, None)

    def _delete(self, run: Run) -> None:
        with explained(self.directory):
            self._open().delete_run(run.info.run_id)
        shutil.rmtree(self._folder(run), ignore_errors=True)

    def _close_leftovers(self) -> None:
        with explained(self.directory):
            client = self._open()
            for experiment in client.search_experiments():
                for run in self._search(experiment.name, "attributes.status = 'RUNNING'"):
                    if "pet.kind" in run.data.tags:
                        client.set_terminated(run.info.run_id, "KILLED")

    def _search(self, experiment: str, which: str) -> list[Run]:
        """Find runs of an experiment, newest first."""
        identifier = self._experiment_id(experiment, create=False)
        if identifier is None:
            return []
        found: list[Run] = []
        token: str | None = None
        with explained(self.directory):
            while True:
                page = self._open().search_runs(
                    [identifier], which, max_results=_PAGE, order_by=["attributes.end_time DESC"], page_token=token
                )
                found += page
                token = page.token
                if not token:
                    return found

    def _experiment_id(self, experiment: str, *, create: bool) -> str | None:
        if not create and not (self.directory / DATABASE).exists():
            return None
        with explained(self.directory):
            client = self._open()
            known = client.get_experiment_by_name(experiment)
            if known is not None:
                if known.lifecycle_stage == "deleted" and create:
                    client.restore_experiment(known.experiment_id)
                return str(known.experiment_id)
            if not create:
                return None
            location = self.directory / artifacts.FOLDER / artifacts.slug(experiment)
            return str(client.create_experiment(experiment, artifact_location=location.as_uri()))

    def _open(self) -> MlflowClient:
        if self._client is None:
            self._client = mlflow_client(self.directory, self.uri)
        return self._client

    def _folder(self, run: Run) -> Path:
        """Folder of a run's artifacts, always under this one: MLflow's path is absolute and may be another copy's."""
        return self.directory.joinpath(*artifacts.path_of(run.info.artifact_uri).parts[-4:])


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))
