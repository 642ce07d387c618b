"""Opening the grid that an experiment's ``engine`` names."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pettoolkit.errors import BadInput

if TYPE_CHECKING:
    from pettoolkit.federation.host import AppFactory, HostedGrid

ENGINES = ("inline", "ray")


@contextmanager
def open_grid(
    engine: str, app_factory: AppFactory, hosted: Mapping[str, Any], workers: int | None = None
) -> Iterator[HostedGrid]:
    """Open a grid for a whole experiment, and close it whatever happens.

    Parameters
    ----------
    engine
        ``inline`` (this process) or ``ray`` (worker processes, or the cluster at ``RAY_ADDRESS``).
        Under ``flower`` a ServerApp is handed its grid by Flower itself.
    app_factory
        Builds the hospitals' app; a function at the top of an importable module.
    hosted
        Site name -> what that hospital holds.
    workers
        Ray's worker processes; one per CPU if ``None``, never more than hospitals.

    Raises
    ------
    BadInput
        If the engine is unknown or there is no hospital.
    EngineFailed
        If Ray does not start.
    """
    if engine not in ENGINES:
        raise BadInput(f"engine: must be one of {', '.join(ENGINES)} (got '{engine}')")
    grid = _open(engine, app_factory, hosted, workers)
    try:
        yield grid
    finally:
        grid.close()


def _open(engine: str, app_factory: AppFactory, hosted: Mapping[str, Any], workers: int | None) -> HostedGrid:
    if engine == "inline":
        from pettoolkit.federation.inprocess import InProcessGrid

        return InProcessGrid(app_factory, hosted)
    from pettoolkit.federation.ray_grid import RayGrid

    return RayGrid(app_factory, hosted, workers or os.cpu_count() or 1)
