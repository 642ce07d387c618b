"""What the runner says about each cell of an experiment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from pettoolkit.records import RunResult, RunSpec, Summary


@dataclass(frozen=True)
class Cell:
    """One combination of arm, matrix values and seed.

    ``spec`` has no contract yet (``contract`` empty, ``contract_digest`` ""): the cohort adds it.
    ``excluded`` is the reason why the cell is not run, or None.
    """

    spec: RunSpec
    excluded: str | None = None


@dataclass(frozen=True)
class PlannedCell:
    """A cell before a run; ``reason`` says why it is stale or excluded."""

    spec: RunSpec
    status: Literal["finished", "to run", "stale", "excluded"]
    reason: str = ""


@dataclass(frozen=True)
class CellReport:
    """A cell after a run; ``result`` is None where it failed, was excluded or never ran, and ``reason`` says why."""

    spec: RunSpec
    status: Literal["done", "skipped", "failed", "excluded", "missing"]
    result: RunResult | None = None
    run_id: str | None = None
    reason: str = ""


@dataclass(frozen=True)
class Comparison:
    """All cells of an experiment in the order of its file, and each variant's seeds put together."""

    cells: tuple[CellReport, ...]
    summaries: tuple[Summary, ...]
    together: str = ""
    """Lines under the table: alone or together, hospitals left out in turn, what all guarantees add up to."""


class Progress(Protocol):
    """Called by the runner whenever something begins or ends."""

    def __call__(self, doing: str, done: int, total: int) -> None:
        """``doing`` says what runs where; ``done`` of ``total`` cells are finished."""
