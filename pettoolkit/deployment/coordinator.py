"""The coordinator's half: Flower's ServerApp takes one run's spec, and leaves its outcome in the coordinator's folder.

The process that started the run picks the outcome up there (:mod:`pettoolkit.deployment.submit`).
"""

from __future__ import annotations

import json
import os
import re
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from pettoolkit.arms.app import coordinate
from pettoolkit.deployment.certificates import public_pem
from pettoolkit.deployment.folders import Coordinator
from pettoolkit.errors import PetError
from pettoolkit.evaluation.outside import summaries
from pettoolkit.federation.metered import Dropped, MeteredGrid
from pettoolkit.federation.persistent import AGAIN, PersistentGrid
from pettoolkit.hospital.store import write_private
from pettoolkit.records import SCHEMA_VERSION, Outcome, RunSpec, from_json, to_json

FOLDER = "PETTOOLKIT_COORDINATOR"
"""Environment variable with the coordinator's folder; Flower hands it down to the processes that it starts."""

SPEC, JOB = "spec", "job"
"""Keys of the run config: the spec as one JSON string, and the name of the file for what comes out."""


@dataclass(frozen=True)
class Deployed:
    """What comes out of a run: the arm's outcome, and each model's figures at each hospital.

    ``figures`` is model's key -> hospital -> figure -> value; a figure that is not there was held back. ``drops`` are
    the hospitals that the run went on without.
    """

    outcome: Outcome
    figures: Mapping[str, Mapping[str, Mapping[str, float]]]
    drops: tuple[Dropped, ...] = ()
    schema_version: int = SCHEMA_VERSION


app = ServerApp()
"""What Flower loads in the coordinator's process."""


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one cell over Flower's own grid, and write down what came out or what went wrong."""
    folder = Coordinator(Path(os.environ[FOLDER]))
    job = str(context.run_config[JOB])
    if not re.fullmatch(r"[0-9a-z-]+", job):
        raise ValueError(f"run config: '{JOB}' is no name of a run")
    try:
        spec = from_json(RunSpec, json.loads(str(context.run_config[SPEC])))
        found = {"deployed": to_json(carry_out(grid, spec, folder.keys.ask_again, keys_of(folder)))}
    except PetError as error:
        found = {"refused": str(error)}
    except Exception as error:  # its text may quote what a hospital sent
        last = traceback.extract_tb(error.__traceback__)[-1]
        found = {"failed": f"unexpected {type(error).__name__} at {Path(last.filename).name}:{last.lineno}"}
    write_private(folder.runs / f"{job}.json", json.dumps(found).encode())


def keys_of(folder: Coordinator) -> dict[bytes, str]:
    """Hospital of each public node key (PEM) that lies in the coordinator's folder."""
    files = {name: folder.node(name) for name in folder.federation.hospitals}
    return {public_pem(file): name for name, file in files.items() if file.is_file()}


def carry_out(grid: Grid, spec: RunSpec, ask_again: float = AGAIN, keys: Mapping[bytes, str] | None = None) -> Deployed:
    """The arm's outside half and the judge's questions, over a grid that asks again where a reply was lost.

    Parameters
    ----------
    ask_again
        Seconds after which a hospital that has not answered is asked again.
    keys
        Hospital of each public node key: a node can't say that it is another one. None believes what nodes say.
    """
    persistent = PersistentGrid(grid, len({*spec.sites, *spec.unseen}), again=ask_again)

    def owners() -> dict[int, str]:
        known = persistent.node_keys()
        return {node: keys[key] for node, key in known.items() if key in keys} if keys is not None else {}

    metered = _metered(persistent, spec, None if keys is None else owners)
    outcome = coordinate(metered, spec)
    metered.readmit()  # the model is judged on the patients of those too who failed while it was trained
    figures = summaries(metered, spec, outcome.models)
    exposure = metered.exposure(out_of_band=outcome.exposure.out_of_band)
    return Deployed(replace(outcome, exposure=exposure), figures, metered.drops)


def _metered(grid: Grid, spec: RunSpec, owners: Callable[[], Mapping[int, str]] | None) -> MeteredGrid:
    """The meter of a cell, which keeps its fault policy; hospitals of other runs are left alone."""
    faults, drop = spec.faults, spec.faults.get("on_failure") == "drop"
    return MeteredGrid(
        grid,
        sites=(*spec.sites, *spec.unseen),
        on_failure="drop" if drop else "fail",
        min_sites=(faults.get("min_sites") or max(1, len(spec.sites) - 1)) if drop else None,
        counted=spec.sites,
        timeout=float(faults.get("round_timeout", 600)),
        owners=owners,
    )
