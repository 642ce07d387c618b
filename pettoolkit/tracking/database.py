"""Opening MLflow's SQLite file, quietly and safely, and saying clearly why it can't be done."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pettoolkit.errors import BadInput

if TYPE_CHECKING:
    from mlflow import MlflowClient

DATABASE = "mlflow.db"

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "GIT_PYTHON_REFRESH": "quiet",
}
"""Nothing goes to the network, and no banner or traceback is printed where we say it in one line ourselves."""

_ELSEWHERE = "or choose another folder with --set tracking.dir=DIR"
_FULL = {errno.ENOSPC, errno.EDQUOT}
_TEXTS = {
    "database or disk is full": f"no space left (make some, {_ELSEWHERE}; what is finished is kept)",
    "database is locked": "another program writes there (end it, then again; what is finished is kept)",
    "readonly database": f"can't be written to (change its permissions, {_ELSEWHERE})",
    "unable to open database file": f"can't be opened (check its permissions, {_ELSEWHERE})",
    "disk I/O error": f"the disk failed or is full (make space, {_ELSEWHERE}; what is finished is kept)",
    "out-of-date database schema": f"written by another version of MLflow (move it away, {_ELSEWHERE})",
    "file is not a database": f"damaged, not an MLflow database (move it away, {_ELSEWHERE})",
    "database disk image is malformed": f"damaged (restore it from a copy, {_ELSEWHERE})",
}


def mlflow_client(directory: Path, uri: str) -> MlflowClient:
    """Open the folder's database, creating it if there is none.

    It is created under another name and then renamed, so that a program that dies while the tables
    are made does not leave half a database.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    directory.mkdir(parents=True, exist_ok=True)
    if not (directory / DATABASE).exists():
        _create(directory)
    return MlflowClient(tracking_uri=uri)


@contextmanager
def explained(directory: Path) -> Iterator[None]:
    """Turn what the disk or the database raises into one clear line.

    Raises
    ------
    BadInput
        Naming the folder and what to do.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(f"{error.filename or directory}: {_disk(error)}") from error
    except database_errors() as error:
        for text, line in _TEXTS.items():
            if text in str(error):
                raise BadInput(f"{directory / DATABASE}: {line}") from error
        raise


def _disk(error: OSError) -> str:
    if error.errno in _FULL:
        return _TEXTS["database or disk is full"]
    return f"{(error.strerror or str(error)).lower()} (check the path and its permissions, {_ELSEWHERE})"


def database_errors() -> tuple[type[Exception], ...]:
    """Error types of SQLite, MLflow and the layer between, as far as they are loaded: others can't have been raised."""
    found: list[type[Exception]] = [sqlite3.Error]
    for module, name in (("mlflow.exceptions", "MlflowException"), ("sqlalchemy.exc", "SQLAlchemyError")):
        if module in sys.modules:
            found.append(getattr(sys.modules[module], name))
    return tuple(found)


def _create(directory: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    new = directory / f"{DATABASE}.new"
    new.unlink(missing_ok=True)
    # Some hundred migrations, each synced to disk, take seconds on a busy disk: sync once, at the end.
    event.listen(Engine, "connect", _do_not_sync)
    try:
        store = SqlAlchemyStore(f"sqlite:///{new}", (directory / "artifacts").as_uri())
        store.engine.dispose()
    finally:
        event.remove(Engine, "connect", _do_not_sync)
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.rename(directory / DATABASE)


def _do_not_sync(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA synchronous = OFF")
