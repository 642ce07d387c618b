"""What a reply is before it becomes a message: kind, purpose and a payload that fits the kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

KINDS = (
    "raw_records",
    "anonymised_records",
    "synthetic_records",
    "model",
    "update",
    "ciphertext",
    "statistics",
    "metrics",
    "predictions",
)
PURPOSES = ("setup", "training", "validation", "release", "evaluation", "audit")

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Table:
    """Rows of patients, real or made up."""

    rows: pd.DataFrame


@dataclass(frozen=True)
class Arrays:
    """Named arrays, and how many patients stand behind them."""

    arrays: Mapping[str, Array]
    examples: int


@dataclass(frozen=True)
class Ciphertexts:
    """Encrypted blobs, each with its own header, and how many patients stand behind them."""

    blobs: tuple[bytes, ...]
    examples: int


@dataclass(frozen=True)
class Figures:
    """Named numbers."""

    values: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """Predictions of test patients: index in the hospital's own order, outcome, score(s), subgroups."""

    arrays: Mapping[str, Array]


Payload = Table | Arrays | Ciphertexts | Figures | Scores

PAYLOAD_OF: Mapping[str, type[Payload]] = {
    "raw_records": Table,
    "anonymised_records": Table,
    "synthetic_records": Table,
    "model": Arrays,
    "update": Arrays,
    "ciphertext": Ciphertexts,
    "statistics": Arrays,
    "metrics": Figures,
    "predictions": Scores,
}


@dataclass(frozen=True)
class Envelope:
    """One reply. The type of ``payload`` must fit ``kind``: a table can't leave labelled as metrics.

    ``figures`` are numbers about the work itself (seconds, counts), never about patients' values.
    """

    kind: str
    purpose: str
    payload: Payload
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"envelope: unknown kind {self.kind!r} (one of {', '.join(KINDS)})")
        if self.purpose not in PURPOSES:
            raise ValueError(f"envelope: unknown purpose {self.purpose!r} (one of {', '.join(PURPOSES)})")
        if self.purpose == "setup" and self.kind not in ("metrics", "ciphertext"):
            raise ValueError(f"envelope: set-up answers with counts or evaluation keys, never with {self.kind}")
        if not isinstance(self.payload, PAYLOAD_OF[self.kind]):
            wanted, given = PAYLOAD_OF[self.kind].__name__, type(self.payload).__name__
            raise ValueError(f"envelope: kind {self.kind} takes a {wanted}, not a {given}")
        if isinstance(self.payload, Arrays | Scores):
            for name, array in self.payload.arrays.items():
                if array.dtype == np.object_:
                    raise ValueError(f"envelope: array {name} holds Python objects, which never leave a hospital")
