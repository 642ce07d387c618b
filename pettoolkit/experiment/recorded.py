"""An experiment's cells as MLflow recorded them, where the hospitals' tables are not at hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pettoolkit.experiment.cells import CellReport
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.matrix import expand, spec_hash
from pettoolkit.records import RunResult

if TYPE_CHECKING:
    from pettoolkit.tracking.finished import FinishedCell
    from pettoolkit.tracking.store import Store


def recorded(config: ExperimentConfig, store: Store) -> list[CellReport]:
    """Cells of the file with the newest result that was recorded for their settings.

    The hospitals are those of the experiment's newest cell: all that its cohort's cells name.

    Returns
    -------
    list of CellReport
        In the order of the file, those without a result included; empty if nothing was recorded.
    """
    cells = list(store.finished(config.name).values())  # oldest first
    if not cells:
        return []
    cells = [cell for cell in cells if cell.cohort == cells[-1].cohort]
    results = {cell.run_id: store.load_result(cell.run_id) for cell in cells}
    reports = []
    for cell in expand(config, _hospitals(list(results.values()))):
        found = _newest(cells, spec_hash(cell.spec))
        if cell.excluded is not None:
            reports.append(CellReport(cell.spec, "excluded", reason=cell.excluded))
        elif found is None:
            reports.append(CellReport(cell.spec, "missing", reason="not run yet"))
        else:
            reports.append(CellReport(results[found.run_id].spec, "skipped", results[found.run_id], found.run_id))
    return reports


def _hospitals(results: Sequence[RunResult]) -> tuple[str, ...]:
    return tuple(sorted({site for r in results for site in (*r.spec.sites, *r.spec.unseen)}))


def _newest(cells: Sequence[FinishedCell], settings: str) -> FinishedCell | None:
    """The cell of these settings that is not superseded, the newest of several."""
    found = [cell for cell in cells if cell.spec_hash == settings]
    return max(found, key=lambda cell: (not cell.superseded, cells.index(cell)), default=None)
