import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's empty database: its tables are created once, since that takes a second."""
    from pettoolkit.tracking.database import DATABASE
    from pettoolkit.tracking.store import Store

    directory = tmp_path_factory.mktemp("template")
    Store(directory)._open()
    return directory / DATABASE


@pytest.fixture
def store(tmp_path, empty_database):
    """An empty store, under its lock."""
    from pettoolkit.tracking.store import Store

    directory = tmp_path / "mlruns"
    directory.mkdir()
    shutil.copy(empty_database, directory)
    with Store(directory) as opened, opened.lock():
        yield opened
