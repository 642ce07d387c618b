"""What all tests share: the same seeds, one thread, and the place of the real data."""

from __future__ import annotations

import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same random state, on one thread."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (libraries under test draw from the global generator)
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def physionet2019() -> Path:
    """Folder of the real data; the test is skipped, with the reason, where there is none."""
    named = os.environ.get("PETTOOLKIT_PHYSIONET2019")
    default = Path(__file__).parents[1] / "data" / "physionet2019"
    path = Path(named) if named else default
    if not path.is_dir():
        pytest.skip(f"needs the PhysioNet data: PETTOOLKIT_PHYSIONET2019 is {named or 'not set'}, no folder {path}")
    return path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database: its tables are created once, since that takes seconds."""
    from pettoolkit.tracking.database import DATABASE
    from pettoolkit.tracking.store import Store

    directory = tmp_path_factory.mktemp("template")
    Store(directory)._open()
    return directory / DATABASE
