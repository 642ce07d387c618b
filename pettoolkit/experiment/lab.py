"""Labs: notebooks for a class, opened on this machine alone; and what they share.

A lab is copied into the student's own folder and opened there, so that one installation serves a class and nobody
edits another's notebook. No telemetry, no check for updates, nothing from the network.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pettoolkit.cohort.contract import Contract
from pettoolkit.cohort.source import Cohort, load_cohort
from pettoolkit.errors import BadInput
from pettoolkit.experiment.config import packaged

if TYPE_CHECKING:
    from pettoolkit.experiment.cells import Comparison
    from pettoolkit.experiment.config import ExperimentConfig

LABS: Mapping[int, tuple[str, str]] = {
    1: ("lab1_coordinator.py", "what the coordinator sees"),
    2: ("lab2_budget.py", "spend a privacy budget"),
    3: ("lab3_synthetic.py", "attack your own synthetic data"),
    4: ("lab4_different_hospital.py", "a hospital that differs"),
    5: ("lab5_choose.py", "read the report and choose"),
}
"""Number to file and title."""

FOLDER = "PETTOOLKIT_LAB_TRACKING_DIR"
"""Environment variable that tells a lab where its student's results are kept."""

QUIET = {"MARIMO_SKIP_UPDATE_CHECK": "1", "MLFLOW_DISABLE_TELEMETRY": "true", "FLWR_TELEMETRY_ENABLED": "0"}


def copy(number: int, folder: Path) -> Path:
    """Copy a lab into ``folder``/labs, unless the student's own copy is there already.

    Raises
    ------
    BadInput
        If there is no lab of that number.
    """
    if number not in LABS:
        listed = "; ".join(f"{n}: {title}" for n, (_, title) in LABS.items())
        raise BadInput(f"lab {number}: there is none of that number ({listed})")
    target = folder / "labs" / LABS[number][0]
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(packaged("labs") / LABS[number][0], target)
    return target


def command(notebook: Path, *, port: int | None = None, edit: bool = False, browser: bool = True) -> list[str]:
    """How marimo is called: on 127.0.0.1, without any look at the network.

    Parameters
    ----------
    edit
        Show the code, and let it be changed; else results and controls alone.

    Raises
    ------
    BadInput
        If marimo is not installed.
    """
    from importlib.util import find_spec

    if find_spec("marimo") is None:
        raise BadInput("labs need marimo (install pettoolkit with its extra: pip install 'pettoolkit[labs]')")
    words = [sys.executable, "-m", "marimo", "edit" if edit else "run", str(notebook), "--host", "127.0.0.1", "--token"]
    words += ["--skip-update-check"] if edit else []
    words += [] if port is None else ["--port", str(port)]
    return words + ([] if browser else ["--headless"])


def open_lab(number: int, folder: Path, *, port: int | None = None, edit: bool = False, browser: bool = True) -> int:
    """Open a lab until it is closed (Ctrl-C), and return marimo's exit code."""
    import subprocess

    notebook = copy(number, folder.absolute())
    words = command(notebook, port=port, edit=edit, browser=browser)
    return subprocess.call(words, env={**os.environ, **QUIET, FOLDER: str(folder.absolute())})


def tracking_dir() -> Path:
    """Where a lab's results go: the student's folder, or one that is thrown away."""
    told = os.environ.get(FOLDER)
    return Path(told) if told else Path(tempfile.mkdtemp(prefix="pettoolkit-lab-"))


def simulated(stays: int) -> tuple[Cohort, Contract]:
    """Draw so many stays for each of the five simulated hospitals, with the contract of the compact features."""
    cohort = load_cohort("simulated", packaged("sites"), stays=stays)
    return cohort, cohort.contract.select("compact")


def run(text: str, folder: Path) -> tuple[ExperimentConfig, Comparison]:
    """Run an experiment from its text in this process, its results in ``folder``; what is finished is skipped."""
    from pettoolkit.experiment import runner
    from pettoolkit.experiment.load import load

    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "lab_experiment.yaml"
    file.write_text(text, encoding="utf-8")
    config = load(file, (f"tracking.dir={folder}",))
    return config, runner.run(config, engine="inline", config_text=config.text())


def decoded(record: npt.NDArray[Any], contract: Contract) -> dict[str, str]:
    """One encoded record (see :mod:`pettoolkit.cohort.features`) in natural units, *missing* where it says so."""
    from pettoolkit.cohort.features import feature_names
    from pettoolkit.synthesis.rows import from_unit

    values = dict(zip(feature_names(contract), np.asarray(record, dtype=np.float64), strict=True))
    said = {}
    for column in contract.feature_columns:
        if column.kind == "category":
            said[column.name] = max(column.levels, key=lambda level: values[f"{column.name}={level}"])
            continue
        unit = np.array([(values[column.name] + 1) / 2])
        natural = float(unit[0] if column.kind == "binary" else from_unit(unit, column)[0])
        gone = values.get(f"{column.name}?", 0.0) > 0.5
        said[column.name] = "missing" if gone else f"{natural:.4g} {column.unit}".strip()
    return said


def questions(three: Sequence[str]) -> str:
    """How a lab ends, as Markdown."""
    return "\n".join(["## Questions", "", *(f"{i}. {question}" for i, question in enumerate(three, start=1))])
