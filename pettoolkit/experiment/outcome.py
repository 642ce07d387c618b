"""One cell on an open grid: what it came to, or why it failed, in words that may be shown."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from pettoolkit.errors import EngineFailed, PetError
from pettoolkit.records import RunSpec

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from pettoolkit.experiment.execute import Executed


def carried_out(grid: Grid, spec: RunSpec, name: str, journal: Path | None) -> Executed | str:
    """Run a cell, or say why it failed: one must not take the others with it.

    Raises
    ------
    EngineFailed
        If no other cell can run either.
    """
    from pettoolkit.experiment.execute import execute

    try:
        return execute(grid, spec, name, journal)
    except EngineFailed:
        raise
    except Exception as error:
        return why_failed(error)


def why_failed(error: Exception) -> str:
    """Text of an error of ours; of any other only type and place, since its text may quote a record."""
    if isinstance(error, PetError):
        return str(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"unexpected {type(error).__name__} at {Path(last.filename).name}:{last.lineno} (a defect: please report it)"
