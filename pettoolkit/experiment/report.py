"""`pettoolkit report`: the recorded cells of an experiment, compared in pairs, as one page."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pettoolkit.errors import BadInput
from pettoolkit.evaluation.contrasts import Contrast, contrast, holm
from pettoolkit.evaluation.intervals import Predictions, ResampledSite, resampled_sites
from pettoolkit.evaluation.predictions import from_bytes
from pettoolkit.experiment.cells import CellReport, Comparison
from pettoolkit.experiment.config import ExperimentConfig
from pettoolkit.experiment.notes import DROPPED
from pettoolkit.records import RunResult
from pettoolkit.report.comparison.content import Facts, html
from pettoolkit.report.comparison.rows import Difference, Row, reference, rows, setting
from pettoolkit.report.lines import Line, lines

ROLES: tuple[Literal["pooled", "local"], ...] = ("pooled", "local")
"""Each technology is compared with pooled real data, and with hospitals that stay alone: the first family."""

RunKey = tuple[int, tuple[str, ...], tuple[str, ...]]
"""Seed, hospitals that train, hospitals left out: what two rows must share to be paired."""

_Pair = tuple[Row, Row, Literal["pooled", "local", "each other"]]


@dataclass(frozen=True)
class Written:
    """Where the report lies, and the run that holds it in MLflow."""

    path: Path
    run_id: str


def report(config: ExperimentConfig, file: str, out: Path | None = None) -> Written:
    """Write the comparison of an experiment's finished cells, and attach it in MLflow to a run of its own.

    Parameters
    ----------
    config
        The experiment.
    file
        As the person named it, for the commands that the report suggests.
    out
        File to write; default ``comparison.html`` in the run's artifacts alone.

    Raises
    ------
    BadInput
        If nothing is finished, or ``out`` can't be written.
    """
    from pettoolkit.experiment import runner
    from pettoolkit.tracking.store import Store

    found = runner.show(config)
    if not any(cell.result is not None for cell in found.cells):
        raise BadInput(f"{config.name}: no finished cell in {config.tracking.dir} (pettoolkit run {file})")
    with Store(Path(config.tracking.dir)) as store:
        text = written(config, file, found, store.load_predictions)
        if out is not None:
            _write(out, text)
        with store.lock():
            run_id, path = store.log_report(config.name, text, _cells(found))
    return Written(out or path, run_id)


def attach(config: ExperimentConfig, file: str, found: Comparison) -> Path | None:
    """Attach the comparison of a run that has just ended, and return where it lies.

    Nothing is written, and None returned, where no cell is finished, or where a report about the same cells is there.
    """
    from pettoolkit.tracking.store import Store

    about = _cells(found)
    if not about:
        return None
    with Store(Path(config.tracking.dir)) as store:
        if store.has_report(config.name, about):
            return None
        text = written(config, file, found, store.load_predictions)
        with store.lock():
            return store.log_report(config.name, text, about)[1]


def _cells(found: Comparison) -> list[str]:
    """Run ids of the finished cells: a cell that is run again is another one."""
    return sorted(cell.run_id for cell in found.cells if cell.result is not None and cell.run_id)


def written(config: ExperimentConfig, file: str, found: Comparison, predictions: Callable[[str], bytes]) -> str:
    """Return the page of a comparison."""
    table = rows(lines(found.cells, found.summaries))
    facts = Facts(
        experiment=config.name,
        file=file,
        source=config.sites.source,
        seeds=tuple(sorted({cell.spec.seed for cell in found.cells if cell.result is not None})),
        notes=tuple(found.together.splitlines()),
        troubles=tuple(_troubles(found.cells)),
        dropped=tuple(
            note
            for cell in found.cells
            if cell.result is not None
            for note in cell.result.notes
            if note.startswith(DROPPED)
        ),
    )
    return html(table, *differences(table, found.cells, predictions), facts)


def differences(
    table: Sequence[Row], cells: Sequence[CellReport], predictions: Callable[[str], bytes]
) -> tuple[list[Difference], list[Difference]]:
    """Compare each row with pooled real data and with hospitals alone, and then every other pair of rows.

    The two are families of their own: the intervals of either hold together at 95 %, and p-values are adjusted within
    it. In one family the many pairs, which nobody may have asked for, would hide what the first is about.

    Hospitals are those that train in both. Rows of other models, features or hospitals, or without a common seed, are
    not compared.

    Returns
    -------
    tuple of list of Difference
        Against the references, and the rest of the pairs.
    """
    run_ids = {cell.result.config_hash: cell.run_id for cell in cells if cell.result is not None and cell.run_id}
    resampled = _Resampled(run_ids, predictions)
    first: list[_Pair] = [
        (row, other, role)
        for row, role in itertools.product(table, ROLES)
        if (other := reference(row, table, role)) is not None
        # Pooled and local would else be compared twice, with opposite signs.
        and not (row.line.spec.arm == "pooled" and row.line.spec.dp is None)
    ]
    known = {frozenset((row.number, other.number)) for row, other, _ in first}
    second: list[_Pair] = [
        (row, other, "each other")
        for row, other in itertools.combinations(table, 2)
        if setting(row.line) == setting(other.line) and frozenset((row.number, other.number)) not in known
    ]
    return _family(first, resampled), _family(second, resampled)


def _family(pairs: Sequence[_Pair], resampled: _Resampled) -> list[Difference]:
    """Differences of the pairs that can be compared, their intervals and p-values adjusted for their number."""
    contrasts = [(pair, resampled.contrast(pair[0].line, pair[1].line)) for pair in pairs]
    found = [(pair, c) for pair, c in contrasts if c is not None]
    adjusted = holm([c.p for _, c in found])
    return [
        Difference(row.number, other.number, role, c.value, c.interval(len(found)), p, c.seeds)
        for ((row, other, role), c), p in zip(found, adjusted, strict=True)
    ]


class _Resampled:
    """Predictions of rows, each resampled once however often it is compared."""

    def __init__(self, run_ids: dict[str, str], predictions: Callable[[str], bytes]) -> None:
        self._run_ids = run_ids
        self._predictions = predictions
        self._loaded: dict[str, Predictions] = {}
        self._drawn: dict[tuple[str, ...], dict[str, ResampledSite]] = {}

    def contrast(self, one: Line, two: Line) -> Contrast | None:
        """Over the runs that both have; None where they have none, or no hospital with both outcomes."""
        ours, theirs = _by_key(one), _by_key(two)
        common = sorted(set(ours) & set(theirs))
        if not common:
            return None
        (a, drawn_a), (b, drawn_b) = (self._runs([results[key] for key in common]) for results in (ours, theirs))
        found = contrast(a, b, drawn_a, drawn_b, [key[0] for key in common])
        return found if isinstance(found, Contrast) else None

    def _runs(self, results: Sequence[RunResult]) -> tuple[list[Predictions], dict[str, ResampledSite]]:
        runs = [{s: p for s, p in self._load(r).items() if s in r.spec.sites} for r in results]
        key = tuple(result.config_hash for result in results)
        if key not in self._drawn:
            self._drawn[key] = resampled_sites(runs, sorted({site for run in runs for site in run}))
        return list(runs), self._drawn[key]

    def _load(self, result: RunResult) -> Predictions:
        name = result.config_hash
        if name not in self._loaded:
            self._loaded[name] = from_bytes(self._predictions(self._run_ids[name]))
        return self._loaded[name]


def _by_key(line: Line) -> dict[RunKey, RunResult]:
    return {(r.spec.seed, r.spec.sites, r.spec.unseen): r for r in line.results}


def _troubles(cells: Sequence[CellReport]) -> list[str]:
    """What has no result and why, each reason once."""
    counts: dict[tuple[str, str, str], int] = {}
    for cell in cells:
        if cell.result is None:
            line = Line(cell.spec, ())
            key = (cell.status, f"{line.arm}, {line.model}", cell.reason)
            counts[key] = counts.get(key, 0) + 1
    return [
        f"{about}: {status}, {'1 cell' if n == 1 else f'{n} cells'}: {reason or 'no reason was recorded'}"
        for (status, about, reason), n in counts.items()
    ]


def _write(out: Path, text: str) -> None:
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"--out {out}: can't be written ({error.strerror}); choose another file") from error
