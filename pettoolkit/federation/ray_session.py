"""Starting and stopping Ray: quietly, once, and with one clear line when it does not start."""

from __future__ import annotations

import logging
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pettoolkit.errors import EngineFailed

OBJECT_STORE_BYTES = 2**30
"""Room for the hospitals' tables on this machine; Ray would otherwise ask for 30 % of the memory."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
CLUSTER_SECONDS = 60.0
"""Time that the Ray at ``RAY_ADDRESS`` has to accept a connection; Ray itself would try for several minutes."""
_ATTEMPTS = 2
_POLL_SECONDS = 1.0
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def on_cluster() -> bool:
    """Whether ``RAY_ADDRESS`` names a Ray that runs already."""
    return os.environ.get("RAY_ADDRESS", "") not in ("", "local")


def start_ray(workers: int) -> bool:
    """Start Ray on this machine, or connect to the cluster at ``RAY_ADDRESS``.

    Parameters
    ----------
    workers
        Worker processes to have ready on this machine.

    Returns
    -------
    bool
        Whether this call started it (then :func:`stop_ray` is the caller's business); ``False`` if it ran already.

    Raises
    ------
    EngineFailed
        If it did not start, was shut down, and did not start again; or if nothing accepts a connection at
        ``RAY_ADDRESS`` within :data:`CLUSTER_SECONDS`.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return False
    if on_cluster():
        _wait_for(os.environ["RAY_ADDRESS"])
    _mute_raylet()
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _init(workers)
        except Exception as error:
            ray.shutdown()
            if attempt == _ATTEMPTS:
                raise EngineFailed(_did_not_start(error)) from None
        else:
            break
    return True


def stop_ray() -> None:
    """Stop this process's Ray, if it has one."""
    import ray

    if ray.is_initialized():
        ray.shutdown()
        _reread_authentication()


def _init(workers: int) -> None:
    import ray

    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if on_cluster():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, runtime_env={"env_vars": dict(ONE_THREAD)})
        return
    # Workers inherit the environment of Ray's own processes: one thread each, and modules found as they are here.
    path = os.pathsep.join(entry for entry in sys.path if os.path.isdir(entry))
    with _environment({**ONE_THREAD, **_token(), "PYTHONPATH": path}):
        _reread_authentication()
        ray.init(address="local", num_cpus=workers, object_store_memory=OBJECT_STORE_BYTES, **quiet)


def _wait_for(address: str) -> None:
    """Wait until something accepts a connection there; an address without a port (``auto``) is left to Ray.

    Raises
    ------
    EngineFailed
        If nothing does within :data:`CLUSTER_SECONDS`.
    """
    place = re.fullmatch(r"(?:ray://)?\[?([^/\[\]]+)\]?:(\d+)", address)
    if place is None:
        return
    end = time.monotonic() + CLUSTER_SECONDS
    while True:
        left = end - time.monotonic()
        try:
            with socket.create_connection((place[1], int(place[2])), timeout=max(left, _POLL_SECONDS)):
                return
        except (OSError, OverflowError) as error:  # a port above 65535 overflows
            if left <= _POLL_SECONDS:
                raise EngineFailed(
                    f"engine: nothing answers at RAY_ADDRESS={address} within {CLUSTER_SECONDS:g} s"
                    f" ({type(error).__name__}: {error}); start that Ray, unset RAY_ADDRESS to have one started here,"
                    " or use --engine inline"
                ) from None
        time.sleep(_POLL_SECONDS)


def _token() -> dict[str, str]:
    """Make a password for our own Ray, unless a person has set how Ray is to authenticate.

    Ray listens on all addresses, and whoever reaches it may run code beside the hospitals' tables.
    """
    if "RAY_AUTH_MODE" in os.environ:
        return {}
    return {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _reread_authentication() -> None:
    """Let Ray, which may have been imported long ago, read the environment's authentication again."""
    import ray

    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()
    ray._raylet.Config.initialize("")


def _did_not_start(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")[:200]
    where = f"at RAY_ADDRESS={os.environ['RAY_ADDRESS']}" if on_cluster() else "on this machine"
    return (
        f"engine: Ray did not start {where}, tried {_ATTEMPTS} times"
        f" ({type(error).__name__}: {first}); use --engine inline, or try again when the machine is less busy"
    )


def _mute_raylet() -> None:
    """Keep Ray's notices about dead workers off stdout, where ``log_to_driver=False`` leaves them."""
    from ray._private import worker

    worker.print_to_stdstream = _print_nothing


def _print_nothing(data: object, ignore_prefix: bool) -> None:
    return None


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del os.environ[name]
            else:
                os.environ[name] = old
