"""What a hospital is asked, after it was read off the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import pandas as pd

from pettoolkit.records import RunSpec


@dataclass(frozen=True)
class Request:
    """One question to a hospital.

    ``extra`` holds an action's own scalars, ``arrays`` and ``blobs`` and ``table`` what the message carried.
    """

    action: str
    purpose: str
    spec: RunSpec
    round: int = 0
    arrays: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    blobs: tuple[bytes, ...] = ()
    table: pd.DataFrame | None = None
    extra: Mapping[str, int | float | str | bool] = field(default_factory=dict)
