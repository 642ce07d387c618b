"""What a poisoned hospital of a simulation does to its update before it sends it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.records import Json, RunSpec

Named = Mapping[str, npt.NDArray[Any]]

SIGN = {"scale": 1.0, "sign_flip": -1.0}


def poison_of(spec: RunSpec, site: str) -> Mapping[str, Json] | None:
    """How a hospital misbehaves in a run, or None if it does not."""
    written: Mapping[str, Json] | None = spec.options.get("poison")
    return written if written is not None and site in written["sites"] else None


def poisoned(update: Named, model: Named, poison: Mapping[str, Json], *, gradient: bool) -> dict[str, Any]:
    """The update, ``factor`` times as long, or in the opposite direction.

    A model w' after local steps from w becomes w + f (w' - w), a gradient g becomes f g; f is ``factor``, negative for
    ``sign_flip``. ``label_flip`` poisons the training itself and changes nothing here.
    """
    if poison["kind"] not in SIGN:
        return dict(update)
    factor = SIGN[poison["kind"]] * float(poison["factor"])
    start = {name: np.zeros_like(value) if gradient else model[name] for name, value in update.items()}
    return {name: (start[name] + factor * (value - start[name])).astype(value.dtype) for name, value in update.items()}
