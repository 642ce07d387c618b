"""Which technologies exist. A new one is a new folder beside this file and one line here."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from pettoolkit.errors import BadInput
from pettoolkit.hospital.envelope import Envelope
from pettoolkit.hospital.request import Request
from pettoolkit.hospital.site import Site
from pettoolkit.records import Outcome, RunSpec

if TYPE_CHECKING:
    from pettoolkit.encryption.parameters import Scheme
    from pettoolkit.federation.metered import MeteredGrid

ARMS = (
    "local",
    "pooled",
    "federated",
    "encrypted_aggregation",
    "encrypted_statistics",
    "encrypted_records",
    "anonymised",
    "synthetic",
    "augmented",
)

ENCRYPTED = ("encrypted_aggregation", "encrypted_statistics", "encrypted_records")
"""Arms whose hospitals share a secret key; for what and for which ring, their ``scheme.py`` says."""

Handler = Callable[[Site, Request], Envelope]


def handlers(arm: str) -> Mapping[str, Handler]:
    """What a hospital can be asked under an arm: action -> handler (its ``inside.py``)."""
    found: Mapping[str, Handler] = _module(arm, "inside").HANDLERS  # type: ignore[attr-defined]
    return found


def coordinator(arm: str) -> Callable[[MeteredGrid, RunSpec], Outcome]:
    """The outside half of an arm (its ``outside.py``)."""
    found: Callable[[MeteredGrid, RunSpec], Outcome] = _module(arm, "outside").coordinate  # type: ignore[attr-defined]
    return found


def key_scheme(spec: RunSpec) -> Scheme | None:
    """For what the hospitals' shared key of a run is made (``scheme.py``), or None if its arm needs none."""
    if spec.arm not in (*ENCRYPTED, "synthetic"):
        return None
    found: Scheme | None = _module(spec.arm, "scheme").key_scheme(spec)  # type: ignore[attr-defined]
    return found


def key_tolerance(spec: RunSpec) -> float | None:
    """Largest SD of flooding noise on a sum that a run can bear (``scheme.py``), or None if it releases no such sum."""
    found: Callable[[RunSpec], float] | None = getattr(_module(spec.arm, "scheme"), "flooding_tolerance", None)
    return None if found is None else found(spec)


def key_purpose(arm: str) -> str:
    """For what the key of an arm with a shared key is made (``scheme.py``)."""
    return str(_module(arm, "scheme").PURPOSE)  # type: ignore[attr-defined]


def _module(arm: str, half: str) -> object:
    if arm not in ARMS:
        raise BadInput(f"arm: unknown {arm!r} (one of {', '.join(ARMS)})")
    return importlib.import_module(f"pettoolkit.arms.{arm}.{half}")
