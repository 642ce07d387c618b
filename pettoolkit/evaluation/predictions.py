"""Scores of a hospital's test patients, and the file they are kept in.

The file is a compressed ``.npz`` that is read with ``allow_pickle=False``, so that opening a foreign
one runs no code.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pettoolkit.errors import BadInput

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class SitePredictions:
    """One model's scores on one hospital's test patients.

    Attributes
    ----------
    patient
        int64[n], number of the patient within the hospital's table; a patient with several rows has one number.
    y
        int8[n], the outcome of each row, 0 or 1.
    score
        float32[n], predicted probability of the outcome.
    subgroup
        Public attributes by name, each an array of n strings.
    """

    patient: Array
    y: Array
    score: Array
    subgroup: Mapping[str, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, dtype in (("patient", np.int64), ("y", np.int8), ("score", np.float32)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=dtype))
        groups = {str(k): np.asarray(v, dtype=np.str_) for k, v in self.subgroup.items()}
        object.__setattr__(self, "subgroup", groups)
        shape = self.patient.shape
        if len(shape) != 1 or any(a.shape != shape for a in (self.y, self.score, *groups.values())):
            raise ValueError("predictions: patient, y, score and subgroups must be vectors of one length")
        if not np.isin(self.y, (0, 1)).all():
            raise ValueError("predictions: y must be 0 or 1")
        if not (np.isfinite(self.score).all() and (self.score >= 0).all() and (self.score <= 1).all()):
            raise ValueError("predictions: a score must be a probability between 0 and 1")

    @property
    def patients(self) -> int:
        """How many test patients there are, however many rows they have."""
        return len(np.unique(self.patient))

    @property
    def positives(self) -> int:
        """How many of them have the outcome in at least one row."""
        return len(np.unique(self.patient[self.y == 1]))


def to_bytes(predictions: Mapping[str, SitePredictions]) -> bytes:
    """Pack ``{site: predictions}`` as a compressed npz; the same input gives the same bytes."""
    arrays: dict[str, Array] = {"sites": np.asarray(list(predictions), dtype=np.str_)}
    for i, p in enumerate(predictions.values()):
        arrays |= {f"{i}/patient": p.patient, f"{i}/y": p.y, f"{i}/score": p.score}
        arrays |= {f"{i}/subgroup/{name}": levels for name, levels in p.subgroup.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def from_bytes(data: bytes, where: str = "predictions") -> dict[str, SitePredictions]:
    """Inverse of :func:`to_bytes`.

    Raises
    ------
    BadInput
        If ``data`` is not such a file; ``where`` names it in the message.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        return {str(site): _site(arrays, i) for i, site in enumerate(arrays["sites"])}
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise BadInput(f"{where}: not a file of predictions ({error}); run the cell again with --force") from error


def save(predictions: Mapping[str, SitePredictions], path: Path) -> None:
    """Write ``{site: predictions}`` to ``path``."""
    path.write_bytes(to_bytes(predictions))


def load(path: Path) -> dict[str, SitePredictions]:
    """Read what :func:`save` wrote."""
    return from_bytes(path.read_bytes(), where=str(path))


def _site(arrays: Mapping[str, Array], i: int) -> SitePredictions:
    prefix = f"{i}/subgroup/"
    return SitePredictions(
        patient=arrays[f"{i}/patient"],
        y=arrays[f"{i}/y"],
        score=arrays[f"{i}/score"],
        subgroup={name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)},
    )
